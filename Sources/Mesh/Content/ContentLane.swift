// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import Foundation
internal import Logging
package import MeshContent
internal import MeshCore
internal import MeshEngine
internal import MeshMembership
internal import MeshReplication
internal import MeshStore
internal import MeshTransport
internal import MeshTrust
internal import Synchronization

/// Content on one node: owns the shelf and the exchange on a thread of its own, so that hashing and
/// files hold up neither links nor records.
///
/// Releases come as records of the namespace `_content`, which prove themselves; how far servers
/// are goes out as records of `_status`. What is in between is chunks over links.
package final class ContentLane: Sendable {
    /// What the lane needs of the node around it.
    struct Surroundings: Sendable {
        let connection: @Sendable (UInt64) -> LinkConnection?
        let now: @Sendable () -> Instant
    }

    /// One channel here.
    struct Channel {
        /// Every release known, by number.
        var releases: [ReleaseNumber: SignedRelease] = [:]
        var active: ReleaseNumber?
        /// Releases whose charter is by root keys that were retired, and is not listed.
        var retired: Set<ReleaseNumber> = []
        var target: ReleaseNumber?
        var readySince: Instant?
        var failure: String?
        var failedAt: Instant?
        /// Why what is fetched comes no further, while it does not.
        var obstacle: String?
        /// A release that is served while its probe has not ended.
        var probed: ReleaseNumber?
        /// What was served before that, and had ended well.
        var fallback: ReleaseNumber?
        /// A release that was tried and was not well.
        var refused: ReleaseNumber?
    }

    /// Everything that one thread owns.
    struct State {
        let shelf: DiskShelf
        var exchange: ContentExchange
        var channels: [String: Channel] = [:]
        /// What publishers are sending, by manifest.
        var publishing: [Digest: SignedRelease] = [:]
        /// Opened rings and halts, as they stand in the mesh's own namespace.
        var stages: Set<String> = []
        /// What other servers told last, by node.
        var told: [NodeID: [ChannelProgress]] = [:]
        var toldAt: [NodeID: UInt64] = [:]
        var neighbours: [NodeID] = []
        var lastStatus: [UInt8] = []
        var statusDue: Instant
        var position = FeedPosition.beginning
        /// Whether records could not be read, and are to be read anew.
        var isUnread = false
        var scrub: (manifest: Digest, place: Int)?
        var nextScrub: Instant
        /// When the centre last spoke, by its own clock and by this process's.
        var fresh: (stamp: HybridTime, at: Instant)?
        var nextFresh: Instant
        /// Servers that left or were replaced; nobody waits for them.
        var gone: Set<NodeID> = []
        /// Since when a ring of a roll-out has been well, by this process's clock.
        var wellSince: [RecordKey: Instant] = [:]
        var rates: [Digest: (at: Instant, bytes: UInt64, perSecond: Double)] = [:]
    }

    let store: Store
    let tuning: ContentSettings
    let logger: Logger
    let around: Surroundings
    /// Messages that wait for the lane.
    private let backlog = Mutex(Backlog())
    private let counted = Mutex<[String: UInt64]>([:])
    private let busy = Atomic<Bool>(true)
    /// Parts of the feed that wait to be read.
    private let news = Mutex(ContentNews())
    private let closed = Atomic<Bool>(false)
    /// Whether the server ends: nothing more is begun.
    var isClosed: Bool { closed.load(ordering: .relaxed) }
    /// Whether something is fetched, published or about to be used: then time counts in tenths of a
    /// second.
    var isBusy: Bool { busy.load(ordering: .relaxed) }
    let queue = DispatchQueue(label: "mesh.content")
    private let state: Mutex<State>
    /// Where channels are served from, for the HTTP server.
    package let root: String
    private let shown = Mutex<[String: ServedRelease]>([:])
    /// What is served now, by channel.
    package var served: [String: ServedRelease] { shown.withLock { $0 } }

    init(store: Store, settings: ContentSettings, logger: Logger, around: Surroundings) throws {
        self.store = store
        tuning = settings
        self.logger = logger
        self.around = around
        root = settings.directory
        let now = around.now()
        let shelf = try DiskShelf(root: settings.directory, reserve: settings.reserve)
        state = Mutex(
            State(
                shelf: shelf, exchange: ContentExchange(tuning: settings.exchange, now: now),
                statusDue: now, nextScrub: now.advanced(by: .seconds(60)), nextFresh: now))
    }

    /// What was refused, damaged or late, and the bytes of chunks that came, by a stable name.
    var counters: [String: UInt64] {
        counted.withLock { $0 }
    }

    func count(_ name: String) { counted.withLock { $0[name, default: 0] += 1 } }

    var identity: DataDirectory.Identity { store.identity }
    var site: String { identity.certificate.ticket.site }

    /// Runs on the lane's thread, then does what the exchange wants done.
    func perform(_ body: @escaping @Sendable (inout State) -> Void) {
        queue.async {
            if self.isClosed { return }
            self.state.withLock { state in
                body(&state)
                self.settle(&state)
            }
        }
    }

    /// The same, and waits for an answer.
    func ask<T: Sendable>(
        _ body: @escaping @Sendable (inout State) throws -> T
    ) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            queue.async {
                let result = Result {
                    try self.state.withLock { state in
                        let answer = try body(&state)
                        self.settle(&state)
                        return answer
                    }
                }
                continuation.resume(with: result)
            }
        }
    }

    private func settle(_ state: inout State) {
        var outgoing: [UInt64: [[UInt8]]] = [:]
        var order: [UInt64] = []
        while true {
            let effects = state.exchange.takeEffects()
            if effects.isEmpty { break }
            for effect in effects {
                switch effect {
                case .send(let link, let message):
                    if outgoing[link] == nil { order.append(link) }
                    outgoing[link, default: []].append(message.encoded)
                case .close(let link, let reason):
                    logger.info("Link closed", metadata: ["reason": "\(reason)"])
                    around.connection(link)?.close()
                case .manifest(let manifest, let bytes): begin(manifest, bytes, &state)
                case .complete(let manifest): complete(manifest, &state)
                case .unwritable(let manifest): giveUp(manifest, &state)
                }
            }
            // A chunk that was wanted for another and is not whole any more.
            for manifest in state.shelf.takeFound() { mend(manifest, &state) }
        }
        let counters = state.exchange.counters
        let (far, near) = (state.exchange.farBytes, state.exchange.nearBytes)
        counted.withLock { all in
            all.merge(counters) { $1 }
            all["content_bytes_far"] = far
            all["content_bytes_near"] = near
        }
        for link in order { around.connection(link)?.send(outgoing[link] ?? []) }
        let isBusy =
            !state.exchange.isIdle || !state.publishing.isEmpty
            || state.channels.values.contains { $0.readySince != nil || $0.probed != nil }
        busy.store(isBusy, ordering: .relaxed)
    }

    private func giveUp(_ manifest: Digest, _ state: inout State) {
        guard let name = channel(of: manifest, state) else { return }
        fail(name, "its files cannot be written: the disk is full, or fails", &state)
        state.exchange.forget(manifest)
    }

    /// Notes why a channel goes no further; it is tried again after a while.
    func fail(_ name: String, _ reason: String, _ state: inout State) {
        state.channels[name]?.failure = reason
        state.channels[name]?.failedAt = around.now()
        tellStatus(&state, isUrgent: true)
    }

    private func begin(_ manifest: Digest, _ bytes: [UInt8], _ state: inout State) {
        guard let name = channel(of: manifest, state) else { return }
        do throws(StoreError) {
            try state.shelf.begin(manifest, bytes, channel: name)
            state.exchange.began(manifest, state.shelf, now: around.now())
            state.channels[name]?.failure = nil
        } catch {
            fail(name, "\(error)", &state)
            state.exchange.forget(manifest)
            count("content_refused")
            logger.error("A release is refused", metadata: ["error": "\(error)"])
        }
    }

    private func channel(of manifest: Digest, _ state: State) -> String? {
        if let signed = state.publishing[manifest] { return signed.release.channel }
        return channelName(of: manifest, state)
    }

    /// Shows the HTTP server what is served, and which files are not for now.
    func show(_ state: State) {
        let damaged = state.shelf.damagedFiles
        var served: [String: ServedRelease] = [:]
        for (name, channel) in state.channels {
            guard let active = channel.active,
                let manifest = state.shelf.activeTree(name),
                let layout = state.shelf.layout(manifest),
                let folder = state.shelf.folder(manifest)
            else { continue }
            served[name] = ServedRelease(
                number: active, layout: layout, folder: folder, damaged: damaged)
        }
        shown.withLock { $0 = served }
    }

    private func complete(_ manifest: Digest, _ state: inout State) {
        guard let name = channel(of: manifest, state),
            let release = state.publishing[manifest]?.release
                ?? self.release(of: manifest, name, state)
        else { return }
        do throws(StoreError) {
            try state.shelf.finish(manifest)
            state.exchange.holds(manifest, audience: release.audience)
            show(state)
            state.rates[manifest] = nil
            logger.notice(
                "A release is complete",
                metadata: ["content.channel": "\(name)", "content.id": "\(manifest)"])
        } catch StoreError.busy {
            // A chunk that was here is not whole any more.
            return state.exchange.began(manifest, state.shelf, now: around.now())
        } catch {
            fail(name, "\(error)", &state)
            state.exchange.forget(manifest)
        }
        step(name, &state)
        tellStatus(&state, isUrgent: true)
    }

    // MARK: From the node

    func linkUp(_ link: UInt64, _ certificate: Certificate) {
        let isNear = certificate.ticket.site == site
        perform { $0.exchange.linkUp(link, certificate, isNear: isNear) }
    }

    func linkDown(_ link: UInt64) {
        let now = around.now()
        perform { state in
            state.exchange.linkDown(link, now: now)
        }
    }

    func receive(_ bytes: [UInt8], from link: UInt64) {
        guard backlog.withLock({ $0.add(bytes.count, of: LinkID(link)) }) else {
            count("content_backlog_over_limit")
            around.connection(link)?.close()
            return
        }
        perform { state in
            self.backlog.withLock { $0.take(bytes.count, of: LinkID(link)) }
            var shelf = state.shelf
            state.exchange.receive(bytes, from: link, &shelf, now: self.around.now())
        }
    }

    /// Records went: what was concluded from them is concluded anew.
    func readAnew() {
        perform { state in
            (state.stages, state.told, state.toldAt, state.fresh) = ([], [:], [:], nil)
            self.readAll(&state)
        }
    }

    /// The store has something new. What apps write is none of the lane's business, and costs it
    /// nothing.
    func changed(_ news: FeedNews) {
        guard news.touchesMesh else { return }
        let isFirst = self.news.withLock { $0.add(news) }
        guard isFirst else { return }
        perform { state in
            for part in self.news.withLock({ $0.take() }) { self.read(part, &state) }
            self.stepAll(&state)
        }
    }

    /// Time went by.
    ///
    /// - Parameter neighbours: the servers of this site that are alive.
    func tick(_ neighbours: [NodeID], gone: Set<NodeID>) {
        perform { state in
            let now = self.around.now()
            state.neighbours = neighbours
            state.gone = gone
            if state.isUnread { self.readAll(&state) }
            state.exchange.farBytesPerSecond = self.tuning.bytesPerSecond
            state.exchange.isFarOpen = self.tuning.isOpen(at: String(Self.localTime().suffix(5)))
            state.exchange.tick(now)
            self.measure(&state, now)
            for name in state.channels.keys.sorted() { self.step(name, &state) }
            self.advanceStages(&state)
            self.sayFresh(&state, now)
            self.scrub(&state, now)
            self.tellStatus(&state, isUrgent: false)
        }
    }

    /// Opens with what was there before the start; returns once that is served.
    func open() async {
        await withCheckedContinuation { shown in
            perform { state in
                for name in state.shelf.channelNames {
                    state.channels[name, default: Channel()].active = state.shelf.active(name)
                    self.recallRefusal(name, &state)
                }
                self.readAll(&state)
                self.show(state)
                shown.resume()
                for name in state.shelf.channelNames {
                    self.recallProbe(name, &state)
                    self.collectLeftovers(name, &state)
                }
            }
        }
    }

    /// Waits for what has begun; what waits comes again at the next start.
    func close() async {
        closed.store(true, ordering: .relaxed)
        await withCheckedContinuation { continuation in
            queue.async { continuation.resume() }
        }
    }
}

/// How content is kept and moved on this node.
public struct ContentSettings: Sendable {
    /// The folder of all channels.
    public var directory: String
    /// Bytes that stay free for records whatever is published.
    public var reserve: UInt64 = 256 << 20
    /// Releases of a channel that are kept, the one that is served among them.
    public var keep = 3
    /// How long a server that is ready waits for its neighbours.
    public var patience = Duration.seconds(60)
    /// Bytes a second read by the scrub.
    public var scrubBytes = 2 << 20
    /// A shell command that says by its exit code whether a release is well; nil for none.
    public var probe: String?
    /// Bytes a second that may come from other sites; nil for any.
    public var bytesPerSecond: Int?
    /// When chunks may come from other sites, by the site's clock, as `22:00-06:00`; nil for
    /// always.
    public var hours: (from: String, to: String)?
    package var exchange = ContentTuning()

    /// Whether chunks may come from other sites at a time of day, `hh:mm`.
    func isOpen(at time: String) -> Bool {
        guard let hours else { return true }
        return hours.from <= hours.to
            ? (hours.from..<hours.to).contains(time) : time >= hours.from || time < hours.to
    }

    /// The defaults for a folder.
    public init(directory: String) { self.directory = directory }
}
