// What the agent knows of one kind of tunnel. The table in registry.ts has one row for each kind.
import type { HostError } from '../errors.ts'
import type { Implementation, TunnelOptions, TunnelPort } from './port.ts'

/** What a machine must have before a tunnel of this kind starts. */
interface TunnelNeeds {
  /** Programs that must be on the PATH. */
  readonly tools: readonly string[]
  /** What else is missing on this machine. */
  readonly faults: readonly HostError[]
}

export interface TunnelKind {
  readonly name: string
  /** Bytes that the tunnel adds to each packet when its own packets are IPv6. */
  readonly overheadBytes: number
  /** Found without changing anything. */
  needs(implementation: Implementation): Promise<TunnelNeeds>
  create(options: TunnelOptions): TunnelPort
}
