// SPDX-License-Identifier: Apache-2.0

/// What stands in `If-Match` and `If-None-Match` (RFC 9110, §13.1).
enum TagList: Equatable {
    struct Tag: Equatable {
        let isWeak: Bool
        let text: Substring
    }

    /// Any state that holds a value.
    case any
    case tags([Tag])

    /// - Returns: nil for a list that cannot be read; an empty one can (§5.6.1). A tag without
    ///   its quotes is taken, as it is easily lost in a shell.
    init?(_ field: String) {
        var rest = field[...].drop { Self.isSpace($0) }
        if rest.first == "*" {
            guard rest.dropFirst().allSatisfy(Self.isSpace) else { return nil }
            self = .any
            return
        }
        var tags: [Tag] = []
        while let first = rest.first {
            if first == "," || Self.isSpace(first) {
                rest = rest.dropFirst()
                continue
            }
            let isWeak = rest.hasPrefix("W/\"")
            if isWeak { rest = rest.dropFirst(2) }
            let text: Substring
            if rest.first == "\"" {
                rest = rest.dropFirst()
                guard let end = rest.firstIndex(of: "\"") else { return nil }
                text = rest[..<end]
                rest = rest[rest.index(after: end)...]
                guard rest.first.map({ $0 == "," || Self.isSpace($0) }) ?? true else { return nil }
            } else {
                text = rest.prefix { $0 != "," && !Self.isSpace($0) }
                guard text.utf8.allSatisfy({ (0x21...0x7e).contains($0) && $0 != 0x22 }),
                    text.first != "*"
                else { return nil }
                rest = rest[text.endIndex...]
            }
            tags.append(Tag(isWeak: isWeak, text: text))
        }
        self = .tags(tags)
    }

    private static func isSpace(_ character: Character) -> Bool {
        character == " " || character == "\t"
    }

    /// Whether a state of this tag is among them, by the weak comparison (§8.8.3.2).
    func contains(_ tag: String) -> Bool {
        switch self {
        case .any: true
        case .tags(let tags): tags.contains { $0.text == tag }
        }
    }
}

/// Media types that a client takes (RFC 9110, §12.5.1).
enum Accept {
    /// Whether a type is named, and not with a weight of zero.
    static func names(_ type: String, in field: String?) -> Bool {
        guard let field else { return false }
        return field.split(separator: ",").contains { range in
            let parts = range.split(separator: ";").map { trimmed($0).lowercased() }
            guard parts.first == type else { return false }
            return !parts.dropFirst().contains { part in
                let weight = part.split(separator: "=", maxSplits: 1).map(trimmed)
                return weight.count == 2 && weight[0] == "q" && Double(weight[1]) == 0
            }
        }
    }

    private static func trimmed(_ text: Substring) -> Substring {
        let start = text.drop { $0 == " " || $0 == "\t" }
        guard let last = start.lastIndex(where: { $0 != " " && $0 != "\t" }) else { return "" }
        return start[...last]
    }
}
