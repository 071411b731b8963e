// SPDX-License-Identifier: Apache-2.0

internal import MeshCore

/// Constants of packed messages that both ends of a link must agree on. See `LinkProtocol`.
package enum PackingSpecification {
    /// The type of a packed message.
    package static let tag: UInt8 = 57
    /// The bit of the preamble by which an end says that it packs and unpacks.
    static let offer: UInt16 = 1
    /// How many bytes of what was packed before both ends keep for each direction.
    static let windowByteCount = 32 << 10
    /// Most bytes that a frame of so many may unpack to. Without such a bound a peer's 64 KiB could
    /// become a gigabyte of messages before anybody counts them.
    static func contentByteCountMax(frame byteCount: Int) -> Int {
        min(LinkSpecification.messageBytesMax, 64 * byteCount + 8192)
    }
    /// A message of commits, and an answer with content.
    static let packable: Set<UInt8> = [commitsTag, contentTag]
    static let commitsTag = LinkMessage.Tag.commits.rawValue
    /// As `ContentProtocol` has it.
    static let contentTag: UInt8 = 38

    /// What a packed message may refer to.
    enum Reference: UInt8 {
        /// Nothing, and nothing refers to it.
        case alone = 0
        /// Nothing; the window begins anew with it.
        case begins = 1
        /// The window; it becomes a part of it.
        case continues = 2
    }
}

/// Constants that are this node's own to choose.
package enum PackingTuning {
    /// zstd's level: level 5 makes hexadecimal digits longer and JSON 5 % shorter, in five times
    /// the time.
    static let level: Int32 = 1
    /// The shortest match that is looked for, in bytes. Shorter ones break up values that are
    /// digits of some kind, whose gain is that a digit needs few bits.
    static let matchMin: Int32 = 7
    /// Shorter messages are sent as they are, in bytes.
    static let byteCountMin = 128
    /// How much of the window is searched for each byte of a message: the search costs time for all
    /// that it looks at, and a short message gains little.
    static let windowPerByte = 16
}
