// SPDX-License-Identifier: Apache-2.0

package import MeshCore

/// One side's move in a comparison of digests: a list of parts. Layout: the article `SyncProtocol`.
package struct SyncTurn: Hashable, Sendable {
    /// The parts, in the order they are to be read.
    package var parts: [SyncPart]

    /// Holds the given parts.
    package init(_ parts: [SyncPart] = []) { self.parts = parts }

    /// Whether it is the first of a comparison.
    package var isFirst: Bool { if case .summary? = parts.first { true } else { false } }

    /// The canonical bytes.
    package var encoded: [UInt8] {
        var writer = WireWriter()
        for part in parts { part.encode(to: &writer) }
        return writer.bytes
    }

    /// Decodes a turn; every list is checked against its limit before it is allocated.
    package init(decoding bytes: [UInt8]) throws(WireError) {
        guard bytes.count <= SyncSpecification.turnBytesMax else {
            throw .tooLong("turn", bytes.count, limit: SyncSpecification.turnBytesMax)
        }
        var reader = WireReader(bytes)
        parts = []
        while reader.left > 0 {
            guard parts.count < SyncSpecification.partsMax else {
                throw .tooLong("parts", parts.count + 1, limit: SyncSpecification.partsMax)
            }
            parts.append(try SyncPart(from: &reader))
        }
    }
}

/// One part of a turn. Hashes are the first 48 bits under the link's salt.
package enum SyncPart: Hashable, Sendable {
    /// The hash over all scopes of a window that both ends hold.
    case summary([UInt8], SyncWindow)
    /// The summary is equal here; the bytes prove that the sender has computed it too.
    case inStep([UInt8])
    /// The sender's scopes with their roots; later parts name a scope by its place in all such
    /// lists.
    case scopes([ScopeEntry])
    /// The logs below a node of a scope's author trie.
    case authors(scope: Int, path: AuthorTrie.Path, isAnswer: Bool, [AuthorEntry])
    /// The hashes of the sixteen children of a node of a scope's author trie.
    case branches(scope: Int, path: AuthorTrie.Path, [UInt64])
    /// Hashes of the children of nodes of one author's tree.
    case nodes(scope: Int, author: UInt64, level: Int, [NodeEntry])
    /// The live sequences of leaves that differ.
    case leaves(scope: Int, author: UInt64, [LeafEntry])
    /// Sequences that the sender asks for.
    case wants(scope: Int, author: UInt64, [LeafEntry])

    /// A scope and its root.
    package struct ScopeEntry: Hashable, Sendable {
        package let scope: Scope
        package let root: UInt64
    }

    /// A log and what the sender knows of it.
    package struct AuthorEntry: Hashable, Sendable {
        package let tag: UInt64
        package let frontier: UInt64
        package let hash: UInt64
        /// Whether the sender cannot take what follows now, and is not to be sent it.
        package let isHeld: Bool
    }

    /// A node of an author's tree with the hashes of its children; zero where a child is empty.
    package struct NodeEntry: Hashable, Sendable {
        package let index: UInt64
        package let children: [UInt64]
    }

    /// A leaf and some of its sequences.
    package struct LeafEntry: Hashable, Sendable {
        package let leaf: UInt64
        package var bits: LeafBits

        /// Names some sequences of a leaf.
        package init(leaf: UInt64, bits: LeafBits) {
            self.leaf = leaf
            self.bits = bits
        }
    }
}

extension SyncPart {
    /// Names sequences by leaf.
    ///
    /// - Parameter sequences: ascending, each at least 1.
    package static func entries(_ sequences: some Collection<UInt64>) -> [LeafEntry] {
        var entries: [LeafEntry] = []
        for sequence in sequences {
            let leaf = DigestTree.leaf(of: sequence)
            let bit: UInt64 = 1 << ((sequence - 1) % DigestTree.leafSpan)
            let before = entries.last?.leaf == leaf ? entries.removeLast().bits.bits : 0
            entries.append(LeafEntry(leaf: leaf, bits: LeafBits(before | bit)))
        }
        return entries
    }

    private enum Tag: UInt8 {
        case summary = 1
        case inStep, scopes, authors, branches, nodes, leaves, wants
    }

    func encode(to writer: inout WireWriter) {
        switch self {
        case .summary(let hash, let window):
            writer.u8(Tag.summary.rawValue)
            window.encode(to: &writer)
            writer.append(hash)
        case .inStep(let proof):
            writer.u8(Tag.inStep.rawValue)
            writer.append(proof)
        case .scopes(let entries):
            writer.u8(Tag.scopes.rawValue)
            writer.count(entries.count)
            for entry in entries {
                writer.scope(entry.scope)
                writer.u48(entry.root)
            }
        case .authors(let scope, let path, let isAnswer, let entries):
            writer.u8(Tag.authors.rawValue)
            writer.count(scope)
            writer.path(path)
            writer.u8(isAnswer ? 1 : 0)
            writer.count(entries.count)
            for entry in entries {
                writer.u48(entry.tag)
                writer.varint(entry.frontier)
                writer.u48(entry.hash)
                writer.u8(entry.isHeld ? 1 : 0)
            }
        case .branches(let scope, let path, let hashes):
            writer.u8(Tag.branches.rawValue)
            writer.count(scope)
            writer.path(path)
            for hash in hashes { writer.u48(hash) }
        case .nodes(let scope, let author, let level, let entries):
            writer.u8(Tag.nodes.rawValue)
            writer.count(scope)
            writer.u48(author)
            writer.u8(UInt8(level))
            encodeNodes(entries, to: &writer)
        case .leaves(let scope, let author, let entries):
            Self.encodeLeaves(.leaves, scope, author, entries, to: &writer)
        case .wants(let scope, let author, let entries):
            Self.encodeLeaves(.wants, scope, author, entries, to: &writer)
        }
    }

    private func encodeNodes(_ entries: [NodeEntry], to writer: inout WireWriter) {
        writer.count(entries.count)
        var next: UInt64 = 0
        for entry in entries {
            writer.varint(entry.index - next)
            next = entry.index + 1
            var mask: UInt16 = 0
            for (offset, hash) in entry.children.enumerated() where hash != 0 {
                mask |= 1 << UInt16(offset)
            }
            writer.u16(mask)
            for hash in entry.children where hash != 0 { writer.u48(hash) }
        }
    }

    private static func encodeLeaves(
        _ tag: Tag, _ scope: Int, _ author: UInt64, _ entries: [LeafEntry],
        to writer: inout WireWriter
    ) {
        writer.u8(tag.rawValue)
        writer.count(scope)
        writer.u48(author)
        writer.count(entries.count)
        var next: UInt64 = 0
        for entry in entries {
            writer.varint(entry.leaf - next)
            next = entry.leaf + 1
            entry.bits.encode(to: &writer)
        }
    }

    init(from reader: inout WireReader) throws(WireError) {
        guard let tag = Tag(rawValue: try reader.u8()) else { throw .invalid("part of a turn") }
        switch tag {
        case .summary:
            let window = try SyncWindow(from: &reader)
            self = .summary(try reader.take(SyncSpecification.summaryBytes), window)
        case .inStep: self = .inStep(try reader.take(SyncSpecification.summaryBytes))
        case .scopes:
            var entries: [ScopeEntry] = []
            for _ in 0..<(try reader.count("scopes", limit: SyncSpecification.scopesMax)) {
                let entry = ScopeEntry(scope: try reader.scope(), root: try reader.u48())
                if let last = entries.last, last.scope >= entry.scope {
                    throw .unordered("scopes")
                }
                entries.append(entry)
            }
            self = .scopes(entries)
        case .authors: self = try Self.authors(&reader)
        case .branches:
            let scope = try reader.scopeIndex()
            let path = try reader.path()
            var hashes: [UInt64] = []
            for _ in 0..<16 { hashes.append(try reader.u48()) }
            self = .branches(scope: scope, path: path, hashes)
        case .nodes: self = try Self.nodes(&reader)
        case .leaves:
            self = .leaves(
                scope: try reader.scopeIndex(), author: try reader.u48(), try Self.leaves(&reader))
        case .wants:
            self = .wants(
                scope: try reader.scopeIndex(), author: try reader.u48(), try Self.leaves(&reader))
        }
    }

    private static func authors(_ reader: inout WireReader) throws(WireError) -> SyncPart {
        let scope = try reader.scopeIndex()
        let path = try reader.path()
        let flag = try reader.u8()
        guard flag <= 1 else { throw .invalid("answer flag") }
        var entries: [AuthorEntry] = []
        for _ in 0..<(try reader.count("authors", limit: SyncSpecification.entriesMax)) {
            let tag = try reader.u48()
            let frontier = try reader.varint()
            guard frontier <= Dot.sequenceMax else { throw .invalid("frontier") }
            let hash = try reader.u48()
            let held = try reader.u8()
            guard held <= 1 else { throw .invalid("flag of a log") }
            entries.append(
                AuthorEntry(tag: tag, frontier: frontier, hash: hash, isHeld: held == 1))
        }
        return .authors(scope: scope, path: path, isAnswer: flag == 1, entries)
    }

    private static func nodes(_ reader: inout WireReader) throws(WireError) -> SyncPart {
        let scope = try reader.scopeIndex()
        let author = try reader.u48()
        let level = Int(try reader.u8())
        guard (1...DigestTree.levelMax + 1).contains(level) else { throw .invalid("level") }
        var entries: [NodeEntry] = []
        var next: UInt64 = 0
        for _ in 0..<(try reader.count("nodes", limit: SyncSpecification.entriesMax)) {
            let index = try reader.index(from: &next)
            let mask = try reader.u16()
            var children: [UInt64] = []
            for offset in 0..<16 {
                guard mask >> UInt16(offset) & 1 == 1 else {
                    children.append(0)
                    continue
                }
                let hash = try reader.u48()
                // Zero means empty, which the mask says already: one turn has one encoding.
                guard hash != 0 else { throw .invalid("hash of a child") }
                children.append(hash)
            }
            entries.append(NodeEntry(index: index, children: children))
        }
        return .nodes(scope: scope, author: author, level: level, entries)
    }

    private static func leaves(_ reader: inout WireReader) throws(WireError) -> [LeafEntry] {
        var entries: [LeafEntry] = []
        var next: UInt64 = 0
        for _ in 0..<(try reader.count("leaves", limit: SyncSpecification.entriesMax)) {
            let leaf = try reader.index(from: &next)
            entries.append(LeafEntry(leaf: leaf, bits: try LeafBits(from: &reader)))
        }
        return entries
    }
}

extension WireWriter {
    fileprivate mutating func u48(_ value: UInt64) {
        u32(UInt32(truncatingIfNeeded: value))
        u16(UInt16(truncatingIfNeeded: value >> 32))
    }

    fileprivate mutating func path(_ path: AuthorTrie.Path) {
        u8(UInt8(path.depth))
        for index in 0..<(path.depth + 1) / 2 {
            u8(UInt8(truncatingIfNeeded: path.bits >> UInt64(56 - 8 * index)))
        }
    }
}

extension WireReader {
    fileprivate mutating func u48() throws(WireError) -> UInt64 {
        UInt64(try u32()) | UInt64(try u16()) << 32
    }

    fileprivate mutating func scopeIndex() throws(WireError) -> Int {
        try count("scope", limit: 2 * SyncSpecification.scopesMax)
    }

    fileprivate mutating func path() throws(WireError) -> AuthorTrie.Path {
        let depth = Int(try u8())
        guard depth <= AuthorTrie.depthMax else { throw .invalid("path") }
        var bits: UInt64 = 0
        for index in 0..<(depth + 1) / 2 { bits |= UInt64(try u8()) << UInt64(56 - 8 * index) }
        if depth % 2 == 1, bits >> UInt64(60 - 4 * depth) & 0xf != 0 { throw .invalid("path") }
        return AuthorTrie.Path(depth: depth, bits: bits)
    }

    /// The next of ascending indices, written as the distance from the one after the last.
    fileprivate mutating func index(from next: inout UInt64) throws(WireError) -> UInt64 {
        let (index, overflow) = next.addingReportingOverflow(try varint())
        guard !overflow, index <= Dot.sequenceMax / DigestTree.leafSpan else {
            throw .invalid("index")
        }
        next = index + 1
        return index
    }
}
