// What the answers of the admin API are made of: the parts of a running agent as they are at this moment. Reading it changes nothing.
import type { HostOp } from '../../core/host/host-state.ts'
import type { WireguardKey } from '../../core/model/values.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { Membership } from '../identity/identity.ts'
import type { Health } from '../observe/health.ts'
import type { Session } from '../session/session.ts'
import type { Settings } from '../settings/settings.ts'
import type { SourceSnapshot } from '../sources/source-facts.ts'
import type { SourceKind } from '../sources/source.ts'

export interface AgentState {
  readonly settings: Settings
  /** Monotonic. */
  readonly startedMs: number
  /** undefined: in no mesh. */
  readonly session: Session | undefined
  readonly joining: boolean
  readonly membership: Membership | undefined
  /** undefined: no data plane on this machine, for the reason in `hostFault`. */
  readonly host: LinuxHost | undefined
  readonly hostFault: string | undefined
  /** An operation as commands; works without a data plane, too. */
  readonly describe: (op: HostOp) => readonly string[]
  readonly wireguardKey: WireguardKey
  readonly source: SourceSnapshot
  readonly sourceKind: SourceKind
  /** The folder, or the URL of the API server. */
  readonly sourcePath: string
  /** A token in a file tells it to join by itself. */
  readonly isToldToJoin: boolean
  readonly health: Health
}
