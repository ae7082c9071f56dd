// A tunnel as the host composes it: one device and its peers. A tunnel of another kind is one folder and one row of registry.ts.
import type { HostOp, PeerStats, Tunnel, WireguardPeer } from '../../../core/host/host-state.ts'
import type { Ip, WireguardKey } from '../../../core/model/values.ts'
import type { HostNames, Run } from '../ports.ts'

/** The operations of a plan that change the tunnel. */
export type TunnelOp = Extract<HostOp, { kind: 'setTunnel' | 'removeTunnel' | 'setPeer' | 'removePeer' }>

/** Errors of its methods: HostError. */
export interface TunnelPort {
  /** Read from the kernel. tunnel undefined: there is no device of ours, and no peers. */
  observe(
    signal: AbortSignal
  ): Promise<{ readonly tunnel: Tunnel | undefined; readonly peers: readonly WireguardPeer[] }>
  /** Makes the device or sets the one that is there; idempotent. */
  setTunnel(tunnel: Tunnel, signal: AbortSignal): Promise<void>
  /** Removes the device with all its peers, also one that a crashed process left. */
  removeTunnel(signal: AbortSignal): Promise<void>
  /** Adds peers and sets those that are there; leaves the others. */
  setPeers(peers: readonly WireguardPeer[], signal: AbortSignal): Promise<void>
  removePeers(keys: readonly WireguardKey[], signal: AbortSignal): Promise<void>
  stats(signal: AbortSignal): Promise<readonly PeerStats[]>
  /** The commands that an operation runs on a device as it was at the last look, for people. No secret is in them. */
  describe(op: TunnelOp): readonly string[]
  /** Text that changes whenever a peer or a prefix of a peer comes or goes; '' where there is no device. */
  fingerprint(signal: AbortSignal): Promise<string>
}

/** Where a kind has one implementation in the kernel and one as a process: which of them. `auto` = the kernel's, else the process. */
export type Implementation = 'auto' | 'kernel' | 'userspace'

export interface TunnelOptions {
  readonly run: Run
  readonly names: HostNames
  /** 32 bytes in base64, asked for when the tunnel is set. */
  readonly privateKey: () => string | Promise<string>
  /** Put on the device as /32 or /128 unless another device of this host has them. */
  readonly addresses: readonly Ip[]
  readonly implementation: Implementation
  readonly nowMs: () => number
}
