// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import MeshCore

/// One line an event on standard error, as text or JSON.
struct LineLogHandler: LogHandler {
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]
    let isJSON: Bool

    init(logLevel: Logger.Level, isJSON: Bool) {
        self.logLevel = logLevel
        self.isJSON = isJSON
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { _, new in new }
        let time = Date().formatted(
            .iso8601.year().month().day().time(includingFractionalSeconds: true))
        let fields = all.sorted { $0.key < $1.key }
        var line: String
        if isJSON {
            var object = [
                "time": time, "level": event.level.rawValue, "message": "\(event.message)",
            ]
            for (key, value) in fields { object[key] = "\(value)" }
            let data = try? JSONSerialization.data(withJSONObject: object, options: .sortedKeys)
            line = String(decoding: data ?? Data(), as: UTF8.self)
        } else {
            line = "\(time) \(event.level.rawValue.uppercased()) \(event.message)"
            for (key, value) in fields { line += " \(key)=\(value)" }
        }
        line = isJSON ? line.visibleJSON : line.visible
        FileHandle.standardError.write(Data((line + "\n").utf8))
    }
}
