// SPDX-License-Identifier: Apache-2.0

internal import MeshReplication
internal import MeshStore

/// What a server does for itself where nobody asks: it reads again what it holds, and gives back
/// memory that a busy time took.
extension MeshNode {
    /// The pause between two looks.
    private static let pause = Duration.seconds(10)

    /// Bytes a second at which the scrub reads at most: a gigabyte in an hour.
    private static let scrubRate = 300_000

    /// For how long of each pause it reads, but one step at least: commits of one record cost
    /// a signature each, and an idle server is to stay idle. A million of those take two days.
    private static let scrubTime = Duration.milliseconds(5)

    /// From the end of a scrub to the beginning of the next.
    private static let scrubPause = Duration.seconds(600)

    /// Keeps house until the node ends; a restart goes on where the last process stopped to scrub.
    func keepHouse() async {
        var place = store.scrubPlace
        var due = ContinuousClock.now
        var memory = Memory(written: store.writtenCount)
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.pause, tolerance: .seconds(2))
            if Task.isCancelled { return }
            if due <= .now {
                let (next, isWhole) = scrub(from: place)
                if next != place { store.keepScrubPlace(next) }
                place = next
                if isWhole { due = .now + Self.scrubPause }
            }
            switch memory.next(written: store.writtenCount) {
            case .nothing: break
            case .forget: store.forgetPages()
            case .giveBack: store.giveBackMemory()
            }
        }
    }

    /// Reads what comes next, and has what rotted fetched again.
    ///
    /// - Returns: where to go on, and whether all was read.
    private func scrub(from start: ScrubPlace) -> (place: ScrubPlace, isWhole: Bool) {
        var (place, bytes) = (start, 0)
        let began = ContinuousClock.now
        while bytes < 10 * Self.scrubRate, ContinuousClock.now - began < Self.scrubTime,
            !Task.isCancelled,
            let step = try? store.scrub(after: place, limit: 16)
        {
            place = step.next
            bytes += step.byteCount
            if place == .beginning { return (place, true) }
        }
        return (place, false)
    }

    /// When memory is given back: pages are forgotten in the first quiet pause after a busy time,
    /// and what that frees goes to the system in the next.
    private struct Memory {
        enum Step { case nothing, forget, giveBack }

        /// Transactions that make a time busy.
        private static let busy = 16

        private var written: Int
        private var since = busy
        private var isForgotten = false

        init(written: Int) { self.written = written }

        mutating func next(written now: Int) -> Step {
            let new = now - written
            written = now
            since += new
            if isForgotten {
                isForgotten = false
                return .giveBack
            }
            guard since >= Self.busy, new < Self.busy else { return .nothing }
            since = 0
            isForgotten = true
            return .forget
        }
    }
}
