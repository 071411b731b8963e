// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
]

// Addresses of functions are bound at the start and cannot be written after it (full RELRO).
let hardened: [LinkerSetting] = [.unsafeFlags(["-Xlinker", "-z", "-Xlinker", "now"])]

func target(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, exclude: [], swiftSettings: settings)
}

let package = Package(
    name: "holdfast",
    products: [
        .library(name: "Mesh", targets: ["Mesh"]),
        .library(name: "MeshClient", targets: ["MeshClient"]),
        .executable(name: "meshd", targets: ["meshd"]),
        .executable(name: "meshctl", targets: ["meshctl"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
        .package(
            url: "https://github.com/apple/swift-configuration", exact: "1.4.0",
            traits: ["JSON", "YAML", "CommandLineArguments"]),
        .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
    ],
    targets: [
        // Below the line: values and functions. No async, clock, chance, log, socket, Foundation.
        .systemLibrary(name: "CSodium", providers: [.apt(["libsodium-dev"])]),
        .systemLibrary(name: "CZstd", providers: [.apt(["libzstd-dev"])]),
        target("MeshCore"),
        target("MeshCrypto", ["CSodium", "MeshCore"]),
        target("MeshTrust", ["MeshCore", "MeshCrypto"]),
        target("MeshReplication", ["MeshCore", "MeshCrypto", "MeshTrust"]),
        target(
            "MeshRules", ["MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication", "MeshContent"]),
        target("MeshLink", ["CZstd", "MeshCore", "MeshCrypto", "MeshTrust"]),
        target("MeshDiscovery", ["MeshCore", "MeshCrypto"]),
        target("MeshMembership", ["MeshCore", "MeshCrypto"]),
        target("MeshContent", ["MeshCore", "MeshCrypto", "MeshTrust"]),
        target(
            "MeshEngine",
            [
                "MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication", "MeshLink",
                "MeshDiscovery", "MeshMembership",
            ]),
        // Judges what servers show from what apps did alone; shares nothing with what it judges.
        target("MeshOracle"),
        // Above the line: async, sockets, disks, clocks.
        target(
            "MeshStore",
            [
                "MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication", "MeshContent",
                "MeshRules",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ]),
        target(
            "MeshTransport",
            [
                "MeshCore", "MeshCrypto", "MeshTrust", "MeshLink",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ]),
        target(
            "Mesh",
            [
                "MeshCore", "MeshCrypto", "MeshTrust", "MeshRules", "MeshReplication", "MeshLink",
                "MeshDiscovery", "MeshMembership", "MeshContent", "MeshEngine", "MeshStore",
                "MeshTransport",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ]),
        target(
            "MeshSimulator",
            [
                "MeshCore", "MeshCrypto", "MeshTrust", "MeshRules", "MeshReplication", "MeshLink",
                "MeshDiscovery", "MeshMembership", "MeshEngine", "MeshStore", "MeshOracle", "Mesh",
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ]),
        target("MeshAPI"),
        target(
            "MeshHTTP",
            [
                "MeshCore", "MeshCrypto", "MeshTrust", "MeshRules", "MeshReplication",
                "MeshMembership",
                "MeshContent", "MeshEngine", "MeshStore", "Mesh", "MeshAPI",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "Logging", package: "swift-log"),
            ]),
        target(
            "MeshClient",
            [
                "MeshAPI", .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ]),
        // The programs.
        .executableTarget(
            name: "meshd",
            dependencies: [
                "Mesh", "MeshHTTP", "MeshStore", "MeshCrypto",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ], swiftSettings: settings, linkerSettings: hardened),
        .executableTarget(
            name: "meshctl",
            dependencies: [
                "MeshClient", "MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication",
                "MeshContent", "MeshStore",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], swiftSettings: settings, linkerSettings: hardened),
        // Tools of this repository.
        .executableTarget(
            name: "meshbench",
            dependencies: [
                "MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication", "MeshRules",
                "MeshContent", "MeshLink", "MeshDiscovery", "MeshMembership", "MeshEngine",
                "MeshStore", "MeshTransport", "Mesh",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ], path: "tools/meshbench", swiftSettings: settings),
        .executableTarget(
            name: "meshsim",
            dependencies: [
                "MeshSimulator", "MeshCrypto",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], path: "tools/simulator", swiftSettings: settings),
        // What the tests share, and the tests.
        .executableTarget(
            name: "evilpeer",
            dependencies: [
                "MeshCore", "MeshCrypto", "MeshTrust", "MeshLink", "MeshMembership",
                "MeshReplication", "MeshStore", "MeshTransport",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ], path: "Tests/EvilPeer", swiftSettings: settings),
        .target(
            name: "MeshTesting",
            dependencies: [
                "MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication", "MeshRules", "MeshStore",
            ],
            path: "Tests/MeshTesting", swiftSettings: settings),
        .testTarget(
            name: "MeshCoreTests", dependencies: ["MeshCore"],
            swiftSettings: settings),
        .testTarget(
            name: "MeshTrustTests",
            dependencies: ["MeshTesting", "CSodium", "MeshCore", "MeshCrypto", "MeshTrust"],
            swiftSettings: settings),
        .testTarget(
            name: "MeshReplicationTests",
            dependencies: [
                "MeshTesting", "MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication",
            ],
            swiftSettings: settings),
        .testTarget(
            name: "MeshLinkTests",
            dependencies: [
                "MeshTesting", "MeshCore", "MeshCrypto", "MeshTrust", "MeshLink", "MeshStore",
            ],
            exclude: ["Vectors"], swiftSettings: settings),
        .testTarget(
            name: "MeshStoreTests",
            dependencies: [
                "MeshTesting", "MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication",
                "MeshRules",
                "MeshStore",
            ],
            swiftSettings: settings),
        .testTarget(
            name: "MeshRulesTests",
            dependencies: [
                "MeshTesting", "MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication",
                "MeshRules", "MeshStore", "MeshOracle",
            ],
            swiftSettings: settings),
        .testTarget(
            name: "MeshMembershipTests",
            dependencies: ["MeshTesting", "MeshCore", "MeshCrypto", "MeshMembership"],
            swiftSettings: settings),
        .testTarget(
            name: "MeshDiscoveryTests", dependencies: ["MeshTesting", "MeshCore", "MeshDiscovery"],
            swiftSettings: settings),
        .testTarget(
            name: "MeshContentTests",
            dependencies: [
                "MeshTesting", "MeshCore", "MeshCrypto", "MeshTrust", "MeshContent", "MeshStore",
            ],
            swiftSettings: settings),
        .testTarget(
            name: "MeshEngineTests",
            dependencies: [
                "MeshTesting", "MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication",
                "MeshRules", "MeshLink",
                "MeshMembership", "MeshStore", "MeshEngine",
            ], swiftSettings: settings),
        .testTarget(
            name: "MeshHTTPTests",
            dependencies: [
                "MeshAPI", "MeshHTTP", .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "MeshSimulatorTests", dependencies: ["MeshCore", "MeshCrypto", "MeshSimulator"],
            swiftSettings: settings),
        .testTarget(
            name: "MeshTransportTests",
            dependencies: [
                "MeshTesting", "MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication",
                "MeshRules", "MeshLink",
                "MeshStore", "MeshTransport", "Mesh",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ], swiftSettings: settings),
        .testTarget(
            name: "ProgramTests", dependencies: ["MeshTesting", "meshd", "meshctl", "evilpeer"],
            swiftSettings: settings),
        .testTarget(
            name: "VectorTests",
            dependencies: [
                "MeshTesting", "MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication", "MeshLink",
                "MeshDiscovery", "MeshMembership", "MeshContent",
            ], exclude: ["Vectors"], swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)
