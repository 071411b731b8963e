// SPDX-License-Identifier: Apache-2.0

extension StringProtocol {
    /// The text as a terminal may be given it: each character that moves the cursor, hides or
    /// reorders what is shown, or ends the line, as an escape such as `\u{1b}`.
    ///
    /// Names, keys and reasons come from whoever wrote them. Escaped are the Unicode categories
    /// control (C0, DEL, C1), format (bidirectional and zero-width characters, tags), line and
    /// paragraph separator.
    package var visible: String {
        if utf8.allSatisfy({ 0x20...0x7e ~= $0 }) { return String(self) }
        var text = ""
        for scalar in unicodeScalars {
            if scalar.isInvisible {
                text += "\\u{\(String(scalar.value, radix: 16))}"
            } else {
                text.unicodeScalars.append(scalar)
            }
        }
        return text
    }

    /// JSON with the same characters of its strings as escapes of JSON.
    package var visibleJSON: String {
        if utf8.allSatisfy({ $0 < 0x7f }) { return String(self) }
        var text = ""
        for scalar in unicodeScalars {
            if scalar.value < 0x7f || !scalar.isInvisible {
                text.unicodeScalars.append(scalar)
            } else {
                for unit in UTF16.encode(scalar) ?? .init() {
                    let digits = String(unit, radix: 16)
                    text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                }
            }
        }
        return text
    }
}

extension Unicode.Scalar {
    fileprivate var isInvisible: Bool {
        switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: true
        default: false
        }
    }
}
