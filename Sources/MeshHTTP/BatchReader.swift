// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import MeshAPI
internal import MeshCore
internal import MeshReplication
internal import MeshRules

/// Reads the body of a batch, once, straight from its bytes into writes.
///
/// It is as strict as `StrictJSON`, on which it stands, and takes no member that it does not know.
struct BatchReader {
    /// What a batch asks for.
    struct Batch {
        var namespace: String
        var site: String?
        var writes: [Write]
    }

    private var json: StrictJSON
    private let routes: Routes

    /// - Throws: a problem that names the write and what is wrong with it.
    static func read(_ bytes: [UInt8], _ routes: Routes) throws -> Batch {
        do {
            var reader = BatchReader(json: try StrictJSON(bytes), routes: routes)
            let batch = try reader.batch()
            try reader.json.end()
            return batch
        } catch let failure as StrictJSON.Failure {
            throw Problem(.badJSON, "byte \(failure.offset): \(failure.reason)")
        }
    }

    private init(json: StrictJSON, routes: Routes) {
        self.json = json
        self.routes = routes
    }

    private mutating func batch() throws -> Batch {
        var namespace: String?
        var site: String?
        var writes: [Write]?
        var members = try json.beginObject()
        while let name = try json.nextMember(&members) {
            switch name {
            case "namespace": namespace = try json.text()
            case "site": site = try json.isNull() ? nil : try json.text()
            case "writes":
                var all: [Write] = []
                var elements = try json.beginArray()
                while try json.nextElement(&elements, atMost: StrictJSON.elementsMax) {
                    all.append(try write(at: all.count))
                }
                writes = all
            default: throw json.failure("a batch has no member '\(name)'")
            }
        }
        guard let namespace, let writes else {
            throw json.failure("a batch has the members namespace and writes")
        }
        return Batch(namespace: namespace, site: site, writes: writes)
    }

    /// The members of a write as they stand.
    private struct Members {
        var op: String?
        var key: [UInt8]?
        var contentType: String?
        var body: [UInt8]?
        var bodies = 0
        /// The type of a value that names none: by how it was given.
        var usualType = ""
        var ifMatch: String?
        var ifAbsent = false

        mutating func take(_ body: [UInt8]?, of type: String) {
            self.body = body
            usualType = type
            bodies += 1
        }
    }

    /// Members that may be null, which means that they are not there.
    private static let optional: Set = [
        "content_type", "text", "base64", "if_match", "if_absent",
    ]

    private mutating func write(at index: Int) throws -> Write {
        var found = Members()
        var members = try json.beginObject()
        while let name = try json.nextMember(&members) {
            if Self.optional.contains(name), try json.isNull() { continue }
            switch name {
            case "op": found.op = try json.text()
            case "key": found.key = try json.string()
            case "content_type": found.contentType = try json.text()
            case "text": found.take(try json.string(), of: "text/plain; charset=utf-8")
            case "base64":
                found.take(
                    Data(base64Encoded: try json.text()).map { Array($0) },
                    of: "application/octet-stream")
            case "value": found.take(try json.raw(), of: "application/json")
            case "if_match": found.ifMatch = try json.text()
            case "if_absent": found.ifAbsent = try json.bool()
            default: throw json.failure("write \(index) has no member '\(name)'")
            }
        }
        let key: RecordKey
        do { key = try routes.key(validating: found.key ?? []) } catch let problem as Problem {
            throw problem.inside("write \(index)")
        }
        let condition = try condition(found, at: index)
        switch found.op {
        case "put":
            guard let body = found.body, found.bodies == 1 else {
                throw Problem(
                    .badBody, "write \(index) has one of text, value and valid base64")
            }
            let type = found.contentType ?? found.usualType
            do { try check(body, of: found, type) } catch let problem as Problem {
                throw problem.inside("write \(index)")
            }
            return Write(.put, key, contentType: type, body: body, condition: condition)
        case "delete":
            guard found.bodies == 0 else {
                throw Problem(.badBody, "write \(index) deletes, so it has no value")
            }
            return Write(.delete, key, condition: condition)
        default:
            throw Problem(.badOp, "write \(index): '\(found.op ?? "")' is not put or delete")
        }
    }

    private func check(_ body: [UInt8], of found: Members, _ type: String) throws {
        // What came as a value was read as JSON already.
        let isRead = found.usualType == "application/json"
        try Routes.check(isRead ? nil : body, of: type)
    }

    private func condition(_ found: Members, at index: Int) throws -> Write.Condition {
        switch (found.ifMatch, found.ifAbsent) {
        case (nil, false): return .none
        case (nil, true): return .holdsNone
        case (let tag?, false): return tag == "*" ? .holdsValue : .matches([tag])
        case (_?, true):
            throw Problem(
                .badCondition, "write \(index) has if_match and if_absent; it takes one of them")
        }
    }
}
