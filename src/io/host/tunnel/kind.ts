// The description of one kind of tunnel. The table in registry.ts has one row for each kind. src/io/host/preflight.ts
// asks what a kind needs, and src/io/host/host.ts creates the tunnel.
import type { HostError } from '../errors.ts'
import type { Implementation, TunnelOptions, TunnelPort } from './port.ts'

/** The things that a machine must have before a tunnel of this kind starts. */
interface TunnelNeeds {
  /** Programs that must be on the PATH. */
  readonly tools: readonly string[]
  /** Errors for other things that are missing on this machine, such as NO_TUN. */
  readonly faults: readonly HostError[]
}

/** One row of the table. */
export interface TunnelKind {
  readonly name: string
  /** Bytes that the tunnel adds to each packet when its own packets are IPv6. */
  readonly overheadBytes: number
  /** Returns what this machine needs for the implementation. Changes nothing. */
  needs(implementation: Implementation): Promise<TunnelNeeds>
  /** Returns the tunnel without making its device. */
  create(options: TunnelOptions): TunnelPort
}
