// The tunnels, one row for each kind. The first row is what every host has, as there is no setting that chooses another one yet.
import type { TunnelKind } from './kind.ts'
import { WIREGUARD } from './wireguard/kind.ts'

export const TUNNELS = [WIREGUARD] as const satisfies readonly TunnelKind[]
