// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// News that goes along with datagrams, told least first, a few times each: one a subject.
struct Retellings: Sendable {
    private struct Item {
        let rumour: Rumour
        var told = 0
    }

    private var items: [ShortID: Item] = [:]
    private let most: Int

    init(most: Int) { self.most = most }

    /// Takes news of a subject, in the place of older.
    ///
    /// - Returns: false if there is no room for more subjects.
    mutating func add(_ rumour: Rumour) -> Bool {
        guard items.count < most || items[rumour.subject] != nil else { return false }
        items[rumour.subject] = Item(rumour: rumour)
        return true
    }

    mutating func forget(_ subject: ShortID) { items[subject] = nil }

    /// All of it, in the order in which it is to be told.
    var inOrder: [Rumour] {
        items.sorted { ($0.value.told, $0.key) < ($1.value.told, $1.key) }.map(\.value.rumour)
    }

    /// News of a subject was told once more; it goes after so many times.
    mutating func tell(_ subject: ShortID, times: Int) {
        guard let told = items[subject]?.told else { return }
        items[subject]?.told = told + 1
        if told + 1 >= times { items[subject] = nil }
    }
}
