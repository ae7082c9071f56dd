// The table of tunnels, with one row for each kind. Every host uses the first row, because no setting chooses another
// one yet.
import type { TunnelKind } from './kind.ts'
import { WIREGUARD } from './wireguard/kind.ts'

/** The rows, the used one first. */
export const TUNNELS = [WIREGUARD] as const satisfies readonly TunnelKind[]
