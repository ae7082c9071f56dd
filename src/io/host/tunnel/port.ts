// The interface of a tunnel for src/io/host/host.ts: one device and its peers. WireGuard is the only kind now. Another
// kind is one folder and one row of registry.ts.
import type { HostOp, PeerStats, Tunnel, WireguardPeer } from '../../../core/host/host-state.ts'
import type { Ip, WireguardKey } from '../../../core/model/values.ts'
import type { HostNames, Run } from '../ports.ts'

/** The operations of a plan that change the tunnel. */
export type TunnelOp = Extract<HostOp, { kind: 'setTunnel' | 'removeTunnel' | 'setPeer' | 'removePeer' }>

/**
 * A tunnel: one device with its peers. Errors of its methods: HostError; TOOL_FAILED if the tool prints a state that
 * cannot be parsed.
 */
export interface TunnelPort {
  /** Reads the device and its peers. `tunnel` undefined: our device does not exist, so it has no peers. */
  observe(
    signal: AbortSignal
  ): Promise<{ readonly tunnel: Tunnel | undefined; readonly peers: readonly WireguardPeer[] }>
  /** Makes the device or sets up the existing one. Idempotent. */
  setTunnel(tunnel: Tunnel, signal: AbortSignal): Promise<void>
  /** Removes the device with all its peers, also one that a crashed process left. */
  removeTunnel(signal: AbortSignal): Promise<void>
  /** Adds peers, sets up the existing ones among them, and leaves all other peers as they are. */
  setPeers(peers: readonly WireguardPeer[], signal: AbortSignal): Promise<void>
  /** Removes peers. A peer that the device does not have is no error. */
  removePeers(keys: readonly WireguardKey[], signal: AbortSignal): Promise<void>
  /** Reads the live facts of all peers; an empty list where there is no device. */
  stats(signal: AbortSignal): Promise<readonly PeerStats[]>
  /** Returns the commands of an operation on the device as last observed, as text for people and without secrets. */
  describe(op: TunnelOp): readonly string[]
  /** Returns text that differs after a peer or a prefix of a peer was added or removed; '' where there is no device. */
  fingerprint(signal: AbortSignal): Promise<string>
}

/** Implementation of a tunnel: in the kernel or in a process. `auto`: the process only if the kernel has no tunnel. */
export type Implementation = 'auto' | 'kernel' | 'userspace'

/** The arguments with which host.ts creates a tunnel. */
export interface TunnelOptions {
  readonly run: Run
  readonly names: HostNames
  /** Returns 32 bytes in base64. Called only when the key must be set, and the key is not kept. */
  readonly privateKey: () => string | Promise<string>
  /** Addresses that the device gets, each as /32 or /128, unless another device of this host has the address. */
  readonly addresses: readonly Ip[]
  readonly implementation: Implementation
  /** Unix milliseconds, to be compared with the time of handshakes. */
  readonly nowMs: () => number
}
