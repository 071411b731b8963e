// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import Glibc
internal import Logging
internal import MeshContent
internal import MeshStore

/// A site's own word on a release: its probe is made, made again after a restart, and heeded.
extension ContentLane {
    /// Asks the site's own command whether the release is well; if it is not, the one before is
    /// served again, here, and the centre hears of it.
    func check(
        _ probe: String, _ name: String, _ release: Release, _ before: ReleaseNumber?
    ) {
        DispatchQueue.global().async {
            var outcomes: [ProbeCommand.Outcome] = []
            while outcomes.count < 5, outcomes.last != .well {
                if !outcomes.isEmpty { usleep(1_000_000) }
                outcomes.append(
                    ProbeCommand.run(
                        probe,
                        environment: ["MESH_CHANNEL": name, "MESH_RELEASE": "\(release.number)"]))
            }
            if outcomes.last == .well {
                self.perform { self.approve(name, release, &$0) }
            } else if !outcomes.contains(.notRun) {
                self.perform { self.withdraw(name, release, before, &$0) }
            } else {
                self.perform { self.postponeProbe(name, release, &$0) }
                // What could not be run says nothing of the release.
                DispatchQueue.global().asyncAfter(deadline: .now() + 60) {
                    self.perform { state in
                        guard state.channels[name]?.probed == release.number else { return }
                        self.check(probe, name, release, before)
                    }
                }
            }
        }
    }

    private func postponeProbe(_ name: String, _ release: Release, _ state: inout State) {
        guard state.channels[name]?.probed == release.number else { return }
        count("content_probe_not_run")
        logger.error("A probe could not be run", metadata: ["content.channel": "\(name)"])
        state.channels[name]?.obstacle = "the probe of release \(release.number) could not be run"
        tellStatus(&state, isUrgent: true)
    }

    private func approve(_ name: String, _ release: Release, _ state: inout State) {
        guard state.channels[name]?.probed == release.number else { return }
        state.channels[name]?.probed = nil
        state.channels[name]?.obstacle = nil
        state.shelf.mark(name, .unproven, nil)
        if state.channels[name]?.refused == release.number {
            state.channels[name]?.refused = nil
            state.channels[name]?.failure = nil
            state.shelf.mark(name, .refused, nil)
        }
        tellStatus(&state, isUrgent: true)
    }

    /// After a start: a release that was not well before is not tried again.
    func recallRefusal(_ name: String, _ state: inout State) {
        guard let number = state.shelf.marked(name, .refused) else { return }
        state.channels[name]?.refused = number
        // It is served all the same where there was nothing to go back to.
        if state.channels[name]?.active == number {
            state.channels[name]?.failure = Self.probeFailure(number)
        }
    }

    /// After a start: a probe that had not ended is made again.
    func recallProbe(_ name: String, _ state: inout State) {
        guard let channel = state.channels[name], let active = channel.active,
            state.shelf.marked(name, .unproven) == active, let probe = tuning.probe,
            let release = channel.releases[active]?.release
        else { return }
        let before = channel.releases.filter {
            $0.key < active && $0.key != channel.refused
                && state.shelf.isWhole($0.value.release.manifest)
        }.keys.max()
        state.channels[name]?.probed = active
        state.channels[name]?.fallback = before
        check(probe, name, release, before)
    }

    static func probeFailure(_ number: ReleaseNumber) -> String {
        "the probe failed after release \(number)"
    }

    private func withdraw(
        _ name: String, _ release: Release, _ before: ReleaseNumber?, _ state: inout State
    ) {
        guard state.channels[name]?.active == release.number else { return }
        state.channels[name]?.refused = release.number
        state.channels[name]?.probed = nil
        state.channels[name]?.failure = Self.probeFailure(release.number)
        state.shelf.mark(name, .refused, release.number)
        count("content_probe_failed")
        guard let before, let manifest = state.channels[name]?.releases[before]?.release.manifest,
            state.shelf.isWhole(manifest),
            (try? state.shelf.activate(name, before, manifest)) != nil
        else { return tellStatus(&state, isUrgent: true) }
        state.shelf.mark(name, .unproven, nil)
        state.channels[name]?.active = before
        show(state)
        tellStatus(&state, isUrgent: true)
    }
}
