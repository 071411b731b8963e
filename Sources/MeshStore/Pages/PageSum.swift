// SPDX-License-Identifier: Apache-2.0

/// The sum at the end of each page of a database file: it shows what a disk did to the page, and
/// that a disk has answered with another page; no protection against a person.
///
/// Four lanes, so that a page costs a fraction of a microsecond.
enum PageSum {
    /// The only size of page that our files have, in bytes.
    static let pageByteCount = 4096
    /// What SQLite leaves free for the sum at the end of a page, in bytes.
    static let byteCount = 8
    /// Where the sum stands in a page.
    static let offset = pageByteCount - byteCount

    /// The sum of a page; `number` counts pages from 1.
    static func of(_ page: UnsafeRawBufferPointer, number: Int64) -> UInt64 {
        precondition(page.count == pageByteCount, "a sum is over a whole page")
        func word(_ place: Int) -> UInt64 {
            UInt64(littleEndian: page.loadUnaligned(fromByteOffset: place, as: UInt64.self))
        }
        var (first, second): (UInt64, UInt64) = (0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93)
        var (third, fourth): (UInt64, UInt64) = (0xe703_7ed1_a0b4_28db, UInt64(bitPattern: number))
        var place = 0
        while place + 32 <= offset {
            first = mixed(first, word(place))
            second = mixed(second, word(place + 8))
            third = mixed(third, word(place + 16))
            fourth = mixed(fourth, word(place + 24))
            place += 32
        }
        var sum = mixed(mixed(mixed(first, second), third), fourth)
        while place < offset {
            sum = mixed(sum, word(place))
            place += 8
        }
        return sum
    }

    /// The sum that a page carries.
    static func carried(by page: UnsafeRawBufferPointer) -> UInt64 {
        UInt64(littleEndian: page.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    /// Every step can be undone, so that two pages which differ in one word never have one sum.
    private static func mixed(_ state: UInt64, _ word: UInt64) -> UInt64 {
        let product = (state ^ word) &* 0xa076_1d64_78bd_642f
        return product ^ product >> 32
    }
}
