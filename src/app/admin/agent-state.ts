// The state of a running agent at this moment, from which the handlers of the admin API build their answers. Reading it changes nothing.
import type { HostOp } from '../../core/host/host-state.ts'
import type { WireguardKey } from '../../core/model/values.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { Membership } from '../identity/identity.ts'
import type { Health } from '../observe/health.ts'
import type { Session } from '../session/session.ts'
import type { Settings } from '../settings/settings.ts'
import type { SourceSnapshot } from '../sources/source-facts.ts'
import type { SourceKind } from '../sources/source.ts'

/** The parts of a running agent. Getters return the state at the time of the call. */
export interface AgentState {
  readonly settings: Settings
  /** The start of the agent on the monotonic clock, in milliseconds. */
  readonly startedMs: number
  /** undefined when this cluster is in no mesh. */
  readonly session: Session | undefined
  readonly joining: boolean
  readonly membership: Membership | undefined
  /** undefined when this machine has no data plane; `hostFault` then has the reason. */
  readonly host: LinuxHost | undefined
  readonly hostFault: string | undefined
  /** Returns an operation as shell commands; it does not need a data plane. */
  readonly describe: (op: HostOp) => readonly string[]
  readonly wireguardKey: WireguardKey
  readonly source: SourceSnapshot
  readonly sourceKind: SourceKind
  /** The path of the folder of manifests, or the URL of the API server. */
  readonly sourcePath: string
  /** Whether the agent has a token in a file, with which it joins without `meshctl join`. */
  readonly isToldToJoin: boolean
  readonly health: Health
}
