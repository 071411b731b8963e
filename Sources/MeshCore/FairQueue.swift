// SPDX-License-Identifier: Apache-2.0

/// What waits to be done for many, one after the other: in order for each of them, and in turn
/// among them, so that nobody waits behind all that another has piled up.
package struct FairQueue<Owner: Hashable & Sendable, Item: Sendable>: Sendable {
    private var waiting: [Owner: ArraySlice<Item>] = [:]
    private var turns: ArraySlice<Owner> = []

    /// Nothing waits.
    package init() {}

    /// Whether nothing waits.
    package var isEmpty: Bool { turns.isEmpty }

    /// Adds what is to be done for somebody, after all that waits for him.
    package mutating func add(_ item: Item, for owner: Owner) {
        if waiting[owner] == nil { turns.append(owner) }
        waiting[owner, default: []].append(item)
    }

    /// Takes the next, at most so many: one of each owner, round after round.
    package mutating func take(atMost most: Int) -> [Item] {
        var taken: [Item] = []
        while taken.count < most, let owner = turns.popFirst() {
            guard let item = waiting[owner]?.popFirst() else {
                preconditionFailure("whoever has a turn has something that waits")
            }
            taken.append(item)
            if waiting[owner]?.isEmpty == true {
                waiting[owner] = nil
            } else {
                turns.append(owner)
            }
        }
        return taken
    }

    /// Forgets all that waits.
    package mutating func removeAll() {
        waiting.removeAll()
        turns.removeAll()
    }
}
