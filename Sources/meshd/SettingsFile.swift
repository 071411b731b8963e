// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Finds unknown keys and wrong values of a configuration file, with their lines.
///
/// The configuration library reads what it is asked for and passes over the rest, so a mistyped key
/// would do nothing, in silence. This looks at the keys of the text itself: nested maps by their
/// indentation or braces, which is all that a configuration needs of YAML and JSON.
enum SettingsFile {
    static func check(_ text: String, path: String) throws {
        if path.hasSuffix(".json") { return try checkJSON(text, path: path) }
        var parents: [(indent: Int, name: String)] = []
        for (index, raw) in text.split(separator: "\n", omittingEmptySubsequences: false)
            .enumerated()
        {
            let line = raw.prefix { $0 != "#" }
            let content = line.drop { $0 == " " }
            let trimmed = content.trimmingCharacters(in: .whitespaces)
            if trimmed.isEmpty || trimmed.hasPrefix("- ") || trimmed == "---" { continue }
            let place = "\(path):\(index + 1)"
            guard let colon = trimmed.firstIndex(of: ":") else {
                throw SettingsError(description: "\(place): '\(trimmed)' is not KEY: VALUE")
            }
            let indent = line.count - content.count
            parents.removeAll { $0.indent >= indent }
            let name = String(trimmed[..<colon]).trimmingCharacters(
                in: CharacterSet(charactersIn: "\"' "))
            let value = trimmed[trimmed.index(after: colon)...].trimmingCharacters(in: .whitespaces)
            let key = (parents.map(\.name) + [name]).joined(separator: ".")
            parents.append((indent, name))
            try check(key, value, place)
        }
    }

    private static func check(_ key: String, _ value: String, _ place: String) throws {
        let isParent = Settings.keys.keys.contains { $0.hasPrefix(key + ".") }
        guard let kind = Settings.keys[key] else {
            if isParent { return }
            throw SettingsError(description: "\(place): there is no setting '\(key)'")
        }
        let bare = value.trimmingCharacters(in: CharacterSet(charactersIn: "\"'"))
        let isGood =
            switch kind {
            case .text: !value.isEmpty
            case .number: Int(bare) != nil
            case .flag: ["true", "false"].contains(bare)
            case .list: value.isEmpty || value.hasPrefix("[")
            }
        guard isGood else {
            throw SettingsError(description: "\(place): \(key) is '\(value)', not \(kind.name)")
        }
    }

    private static func checkJSON(_ text: String, path: String) throws {
        let object: Any
        do { object = try JSONSerialization.jsonObject(with: Data(text.utf8)) } catch {
            throw SettingsError(description: "\(path): \(error)")
        }
        try walk(object, [], text, path)
    }

    private static func walk(_ value: Any, _ path: [String], _ text: String, _ file: String) throws
    {
        let key = path.joined(separator: ".")
        if let map = value as? [String: Any], Settings.keys[key] == nil {
            for (name, child) in map.sorted(by: { $0.key < $1.key }) {
                try walk(child, path + [name], text, file)
            }
            return
        }
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        let line = lines.firstIndex { $0.contains("\"\(path.last ?? "")\"") } ?? 0
        let place = "\(file):\(line + 1)"
        guard let kind = Settings.keys[key] else {
            throw SettingsError(description: "\(place): there is no setting '\(key)'")
        }
        let isGood =
            switch kind {
            case .text: value is String
            case .number: value is Int
            case .flag: value is Bool
            case .list: value is [String]
            }
        guard isGood else {
            throw SettingsError(description: "\(place): \(key) is not \(kind.name)")
        }
    }
}
