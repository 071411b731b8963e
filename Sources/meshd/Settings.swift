// SPDX-License-Identifier: Apache-2.0

import Configuration
import Foundation
import Mesh
import MeshCore
import MeshHTTP
import SystemPackage

/// Why the configuration was refused: what, and in which file and line.
struct SettingsError: Error, CustomStringConvertible {
    let description: String
}

/// The configuration of a node: flags before environment before file; anything unknown stops the
/// start.
struct Settings {
    /// Every key, with what a value must be.
    static let keys: [String: Kind] = [
        "data": .text, "log.level": .text, "log.format": .text, "mesh.listen": .text,
        "mesh.seeds": .list, "mesh.compression": .flag, "discovery.enabled": .flag,
        "discovery.interfaces": .list,
        "discovery.networks": .list,
        "discovery.group": .text, "discovery.group6": .text, "discovery.port": .number,
        "discovery.ttl": .number, "gateway.priority": .number,
        "content.directory": .text, "content.keep": .number, "content.patience": .number,
        "content.probe": .text, "content.rate": .number, "content.hours": .text,
        "content.reserve": .number, "content.open": .flag,
        "content.listen": .text,
        "http.listen": .text, "http.hosts": .list, "http.origins": .list,
        "http.loopback": .text, "http.plaintext": .flag, "store.volatile": .flag,
    ]

    enum Kind {
        case text, number, flag, list

        var name: String {
            switch self {
            case .text: "text"
            case .number: "a whole number"
            case .flag: "true or false"
            case .list: "a list"
            }
        }
    }

    var mesh: MeshConfiguration
    var api: APIConfiguration
    var logLevel: String
    var isJSONLog: Bool

    /// Reads all three sources.
    ///
    /// - Parameter flags: what the command line gave, by key.
    init(file: String?, environment: [String: String], flags: [String: String]) async throws {
        var providers: [any ConfigProvider] = []
        let flagValues = try flags.map { key, text in
            (
                AbsoluteConfigKey(key.split(separator: ".").map(String.init)),
                try Self.value(key, text, "--\(key)")
            )
        }
        providers.append(InMemoryProvider(values: Dictionary(uniqueKeysWithValues: flagValues)))
        let known = try Self.fromEnvironment(environment)
        providers.append(InMemoryProvider(values: known))
        if let path = file { providers += [try await Self.fileProvider(path)] }
        let reader = ConfigReader(providers: providers)
        let data = reader.string(forKey: "data", default: "/var/lib/mesh")
        mesh = MeshConfiguration(dataDirectory: data)
        mesh.credentials = environment["CREDENTIALS_DIRECTORY"]
        try Self.fill(&mesh, reader)
        api = APIConfiguration(adminSocket: data + "/admin.sock")
        try Self.fill(&api, reader)
        logLevel = reader.string(forKey: "log.level", default: "info")
        let format = reader.string(forKey: "log.format", default: "text")
        guard ["text", "json"].contains(format) else {
            throw SettingsError(description: "log.format: '\(format)' is not text or json")
        }
        isJSONLog = format == "json"
        if let refusal = api.refusal { throw SettingsError(description: refusal) }
    }

    private static func fill(_ mesh: inout MeshConfiguration, _ reader: ConfigReader) throws {
        let listen = reader.string(forKey: "mesh.listen", default: "0.0.0.0:7374")
        guard let colon = listen.lastIndex(of: ":"),
            let port = Int(listen[listen.index(after: colon)...]),
            (0...65_535).contains(port)
        else { throw SettingsError(description: "mesh.listen: '\(listen)' is not HOST:PORT") }
        mesh.listenHost = String(listen[..<colon]).trimmingCharacters(
            in: CharacterSet(charactersIn: "[]"))
        mesh.listenPort = port
        mesh.packs = reader.bool(forKey: "mesh.compression", default: true)
        mesh.seeds = reader.stringArray(forKey: "mesh.seeds", default: [])
        for seed in mesh.seeds where Address(seed) == nil {
            throw SettingsError(description: "mesh.seeds: '\(seed)' is not HOST:PORT")
        }
        mesh.discovery = reader.bool(forKey: "discovery.enabled", default: true)
        let interfaces = reader.stringArray(forKey: "discovery.interfaces", default: [])
        mesh.interfaces = interfaces.isEmpty ? nil : interfaces
        let networks = reader.stringArray(forKey: "discovery.networks", default: [])
        for network in networks where IPNetwork(network) == nil {
            throw SettingsError(
                description: "discovery.networks: '\(network)' is not ADDRESS/BITS, as 10.0.0.0/8")
        }
        if !networks.isEmpty { mesh.networks = networks.compactMap { IPNetwork($0) } }
        mesh.beaconGroup = reader.string(forKey: "discovery.group", default: mesh.beaconGroup)
        mesh.beaconGroup6 = reader.string(forKey: "discovery.group6", default: mesh.beaconGroup6)
        mesh.beaconPort = reader.int(forKey: "discovery.port", default: mesh.beaconPort)
        mesh.beaconTTL = reader.int(forKey: "discovery.ttl", default: 1)
        guard (1...65_535).contains(mesh.beaconPort), (1...255).contains(mesh.beaconTTL) else {
            throw SettingsError(
                description: "discovery.port is 1 to 65535 and discovery.ttl 1 to 255")
        }
        mesh.gatewayPriority = reader.int(forKey: "gateway.priority", default: 0)
        guard (0...255).contains(mesh.gatewayPriority) else {
            throw SettingsError(description: "gateway.priority is 0 to 255")
        }
        try fill(&mesh.content, reader)
        mesh.allowVolatile = reader.bool(forKey: "store.volatile", default: false)
    }

    private static func fill(_ api: inout APIConfiguration, _ reader: ConfigReader) throws {
        let listen = reader.string(forKey: "http.listen", default: "127.0.0.1:7373")
        api.listen = listen == "none" ? nil : listen
        api.hosts = reader.stringArray(forKey: "http.hosts", default: [])
        api.origins = reader.stringArray(forKey: "http.origins", default: [])
        let loopback = reader.string(forKey: "http.loopback", default: "open")
        guard ["open", "token"].contains(loopback) else {
            throw SettingsError(description: "http.loopback: '\(loopback)' is not open or token")
        }
        api.loopbackNeedsToken = loopback == "token"
        api.contentListen = reader.string(forKey: "content.listen")
        api.contentOpen = reader.bool(forKey: "content.open", default: false)
        api.allowPlaintext = reader.bool(forKey: "http.plaintext", default: false)
    }

    private static func fill(_ content: inout ContentSettings, _ reader: ConfigReader) throws {
        content.directory = reader.string(
            forKey: "content.directory", default: content.directory)
        content.keep = reader.int(forKey: "content.keep", default: content.keep)
        let patience = reader.int(forKey: "content.patience", default: 60)
        let reserve = reader.int(forKey: "content.reserve", default: 256)
        guard (2...100).contains(content.keep), (0...86_400).contains(patience),
            (0...1_000_000).contains(reserve)
        else {
            throw SettingsError(
                description:
                    "content.keep is 2 to 100 releases, content.patience 0 to 86400 seconds, content.reserve 0 to 1000000 MiB"
            )
        }
        content.patience = .seconds(patience)
        content.reserve = UInt64(reserve) << 20
        content.probe = reader.string(forKey: "content.probe")
        let rate = reader.int(forKey: "content.rate", default: 0)
        guard (0...10_000_000).contains(rate) else {
            throw SettingsError(
                description: "content.rate is 1 to 10000000 KiB a second, or 0 for any")
        }
        content.bytesPerSecond = rate == 0 ? nil : rate << 10
        guard let hours = reader.string(forKey: "content.hours") else { return }
        let ends = hours.split(separator: "-").map(String.init)
        let isTime = { (text: String) in
            let parts = text.split(separator: ":").compactMap { UInt8($0) }
            return text.utf8.count == 5 && parts.count == 2 && parts[0] < 24 && parts[1] < 60
        }
        guard ends.count == 2, ends.allSatisfy(isTime), ends[0] != ends[1] else {
            throw SettingsError(
                description: "content.hours: '\(hours)' is not like 22:00-06:00")
        }
        content.hours = (ends[0], ends[1])
    }

    private static func fromEnvironment(
        _ environment: [String: String]
    ) throws -> [AbsoluteConfigKey: ConfigValue] {
        var values: [AbsoluteConfigKey: ConfigValue] = [:]
        for (name, text) in environment where name.hasPrefix("MESH_") && name != "MESH_CONFIG" {
            let key = name.dropFirst(5).lowercased().replacingOccurrences(of: "_", with: ".")
            guard keys[key] != nil else {
                throw SettingsError(description: "$\(name): there is no setting '\(key)'")
            }
            values[AbsoluteConfigKey(key.split(separator: ".").map(String.init))] =
                try value(key, text, "$\(name)")
        }
        return values
    }

    private static func value(_ key: String, _ text: String, _ place: String) throws -> ConfigValue
    {
        switch keys[key] {
        case .text: return ConfigValue(.string(text), isSecret: false)
        case .number:
            guard let number = Int(text) else { break }
            return ConfigValue(.int(number), isSecret: false)
        case .flag:
            guard let flag = Bool(text) else { break }
            return ConfigValue(.bool(flag), isSecret: false)
        case .list:
            let items = text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
            return ConfigValue(.stringArray(items), isSecret: false)
        case nil: throw SettingsError(description: "\(place): there is no setting '\(key)'")
        }
        let kind = keys[key]?.name ?? ""
        throw SettingsError(description: "\(place): '\(text)' is not \(kind)")
    }

    private static func fileProvider(_ path: String) async throws -> any ConfigProvider {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw SettingsError(description: "\(path): the file is missing or cannot be read")
        }
        try SettingsFile.check(String(decoding: data, as: UTF8.self), path: path)
        do {
            if path.hasSuffix(".json") {
                return try await FileProvider<JSONSnapshot>(filePath: FilePath(path))
            }
            return try await FileProvider<YAMLSnapshot>(filePath: FilePath(path))
        } catch {
            throw SettingsError(description: "\(path): \(error)")
        }
    }
}
