// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Mesh
internal import MeshAPI
internal import MeshCore
internal import MeshReplication
internal import NIOCore
internal import NIOHTTP1

/// The description of the API that programs read (OpenAPI 3.1), made from the table of routes.
///
/// What is asked of records is described to the last member. The answers to operators are objects
/// of which `meshctl` is the reader.
enum OpenAPI {
    typealias Object = [String: Any]

    /// As it is sent.
    static let document: ByteBuffer = {
        do { return ByteBuffer(bytes: try made()) } catch {
            preconditionFailure("the description of the API cannot be written: \(error)")
        }
    }()

    private static func made() throws -> Data {
        var paths: [String: Object] = [:]
        for route in RouteTable.all {
            let path = route.template.replacing("*}", with: "}")
            paths[path, default: [:]][route.method.rawValue.lowercased()] = operation(route)
        }
        let info: Object = [
            "title": "Holdfast", "version": meshVersion,
            "description": "Records of a site's servers, over the site's own network.",
            "license": ["name": "Apache-2.0", "identifier": "Apache-2.0"],
        ]
        let components: Object = [
            "schemas": schemas,
            "securitySchemes": ["token": ["type": "http", "scheme": "bearer"]],
        ]
        // A program on the same host needs no token.
        let security: [Object] = [["token": [String]()], [:]]
        let document: Object = [
            "openapi": "3.1.0", "info": info, "paths": paths, "components": components,
            "security": security,
        ]
        return try JSONSerialization.data(
            withJSONObject: document, options: [.sortedKeys, .withoutEscapingSlashes])
    }

    private static func operation(_ route: Route) -> Object {
        let description = descriptions["\(route.method.rawValue) \(route.template)"]
        var answers: Object = [:]
        for answer in description?.answers ?? [] {
            answers["\(answer.status)"] = answer.object
        }
        answers["default"] = [
            "description": "The request cannot be carried out.",
            "content": ["application/problem+json": ["schema": reference("Problem")]],
        ]
        var operation: Object = [
            "summary": description?.summary ?? "", "responses": answers,
            "operationId": name(of: route),
            "parameters": pathParameters(route) + queryParameters(route)
                + headers(route),
        ]
        if let body = description?.body { operation["requestBody"] = body }
        return operation
    }

    /// A name for functions of a client: `getRecordsNamespaceKey`.
    private static func name(of route: Route) -> String {
        let words = route.template.split { "/{}*.".contains($0) }.filter { $0 != "v1" }
        return route.method.rawValue.lowercased()
            + words.map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
    }

    // MARK: Parameters

    private static func pathParameters(_ route: Route) -> [Object] {
        route.template.split(separator: "/").filter { $0.hasPrefix("{") }.map { part in
            let name = String(part.dropFirst().dropLast(part.hasSuffix("*}") ? 2 : 1))
            let about = pathAbout[name]
            return [
                "name": name, "in": "path", "required": true,
                "description": about?.text ?? "",
                "schema": about?.schema ?? ["type": "string", "minLength": 1],
            ]
        }
    }

    private static var pathAbout: [String: (text: String, schema: Object)] {
        [
            "namespace": (
                "The namespace.",
                ["type": "string", "pattern": "^[a-z0-9_][a-z0-9_-]*$", "maxLength": 63]
            ),
            "key": (
                "The key: UTF-8 without NUL; a slash in it may stand as it is.", keySchema
            ),
            "manifest": (
                "The manifest's name, a hash.", ["type": "string", "pattern": "^[0-9a-f]{64}$"]
            ),
            "release": (
                "`EPOCH.VERSION`.",
                ["type": "string", "pattern": "^[0-9]{1,9}\\.[0-9]{1,9}$"]
            ),
            "place": (
                "The place of a write, as its answer told it.",
                ["type": "string", "pattern": "^[0-9a-f]{1,16}-[1-9][0-9]{0,17}$"]
            ),
            "scope": (
                "A namespace and whom it is for: `menu@all`, `orders@site/s12`.",
                [
                    "type": "string",
                    "pattern":
                        "^[a-z0-9_][a-z0-9_-]{0,62}@(all|(site|group)/[A-Za-z0-9][A-Za-z0-9_.-]{0,62})$",
                ]
            ),
        ]
    }

    private static func queryParameters(_ route: Route) -> [Object] {
        route.parameters.compactMap { name in
            let isTime = name == "since" && route.template != "/v1/changes"
            return queryAbout[isTime ? "time" : name].map { about in
                [
                    "name": name, "in": "query", "required": false, "description": about.text,
                    "schema": about.schema,
                ]
            }
        }
    }

    private static var queryAbout: [String: (text: String, schema: Object)] {
        [
            "site": (
                "Another site than the server's own.",
                ["type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"]
            ),
            "prefix": ("What the keys begin with.", ["type": "string"]),
            "after": ("The key after which to go on.", ["type": "string", "minLength": 1]),
            "limit": (
                "How many records at most.", ["type": "integer", "minimum": 1, "maximum": 1000]
            ),
            "siblings": (
                "Whether to show all live versions.", ["type": "string", "enum": ["shown", "all"]]
            ),
            "ack": (
                """
                Where a write is to be durable before it is acknowledged: on the server that takes it, on so many \
                servers of its site, or also on one of the centre. The write stands in any case.
                """,
                [
                    "type": "string", "pattern": "^(local|central|site:([1-9]|1[0-6]))$",
                    "default": "local",
                ]
            ),
            "wait": (
                "How long to wait for that; then the answer is 202, with what was reached.",
                [
                    "type": "string",
                    "pattern": "^([0-9]{1,4}|[12][0-9]{4}|30000)ms$|^([12]?[0-9]|30)s$",
                    "default": "500ms",
                ]
            ),
            "namespace": ("Changes of one namespace alone.", ["type": "string", "minLength": 1]),
            "since": (
                "The cursor of a change, or `now`: what comes after it.",
                ["type": "string", "pattern": "^(now|([0-9a-f]{2})+-[0-9]{1,18})$"]
            ),
            "time": (
                "Milliseconds since 1970.", ["type": "string", "pattern": "^[0-9]{1,15}$"]
            ),
            "follow": (
                "Whether to wait for more.", ["type": "string", "enum": ["true", "false"]]
            ),
            "force": (
                "Whether to leave all the same.", ["type": "string", "enum": ["true", "false"]]
            ),
            "from": ("The host that the call came from.", ["type": "string", "minLength": 1]),
            "places": (
                "Chunks: `FROM-TO`, with dots between.",
                [
                    "type": "string",
                    "pattern": "^([0-9]{1,6}-[0-9]{1,6}(\\.[0-9]{1,6}-[0-9]{1,6})*)?$",
                ]
            ),
        ]
    }

    private static func headers(_ route: Route) -> [Object] {
        func header(_ name: String, _ text: String, _ pattern: String) -> Object {
            [
                "name": name, "in": "header", "required": false, "description": text,
                "schema": ["type": "string", "pattern": pattern] as Object,
            ]
        }
        // Without its quotes a tag is taken, too: they are easily lost in a shell.
        let tag = "((W/)?\"[!#-~]{1,64}\"|[!#-)+\\--~][!#-+\\--~]{0,63})"
        let isRecord = route.template.hasSuffix("{key*}")
        switch route.method {
        case .GET where isRecord:
            return [
                header(
                    "If-None-Match", "Entity tags; one that fits is answered with 304.",
                    "^(|\\*|\(tag)(, ?\(tag))*)$")
            ]
        case .PUT where isRecord, .DELETE where isRecord:
            return [
                header(
                    "If-Match", "Entity tags of states that the writer has seen, or *.",
                    "^(|\\*|\(tag)(, ?\(tag))*)$"),
                header(
                    "If-None-Match",
                    "`*`: only if the key holds no value; entity tags: only if its state is none of these.",
                    "^(|\\*|\(tag)(, ?\(tag))*)$"),
                idempotency,
            ]
        case .POST where route.template == "/v1/batch":
            return [idempotency, header("Prefer", "No word on each write.", "^return=minimal$")]
        case .GET where route.template == "/v1/changes":
            return [
                header(
                    "Last-Event-ID", "As `since`, by a browser that connects again.",
                    "^(|([0-9a-f]{2})+-[0-9]{1,18})$")
            ]
        default: return []
        }
    }

    private static var idempotency: Object {
        [
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "A name under which the same request has the same answer again.",
            "schema": ["type": "string", "minLength": 1, "maxLength": 128],
        ]
    }

    static var keySchema: Object {
        [
            "type": "string", "minLength": 1, "maxLength": RecordKey.byteCountMax,
            "pattern": "^[^/\\x00]+(/[^/\\x00]+){0,\(RecordKey.componentsMax - 1)}$",
        ]
    }

    static func reference(_ name: String) -> Object { ["$ref": "#/components/schemas/\(name)"] }
}
