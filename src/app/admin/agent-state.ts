// The state of a running agent at this moment, from which the handlers of the admin API build their answers.
// agent/agent.ts makes the one object. To read it changes nothing and does not block.
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
  /** When the agent started: milliseconds of the monotonic clock, for the uptime. */
  readonly startedMs: number
  /** undefined when this cluster is in no mesh. */
  readonly session: Session | undefined
  /**
   * True while a session waits for the first member to accept this cluster; `session` is set as soon as it has started.
   */
  readonly joining: boolean
  /**
   * True when the identity on disk names a mesh that this agent is a member of. `session` is then undefined while it
   * starts, for example after a restart.
   */
  readonly isMember: boolean
  /** The cluster of a token on disk that no member has answered; undefined: none. */
  readonly pendingCluster: string | undefined
  /** True while a leave has begun and is not finished: its last attempt has failed, or is under way. */
  readonly isLeaving: boolean
  /** undefined exactly when `session` is. */
  readonly membership: Membership | undefined
  /** undefined when this machine has no data plane; `hostFault` then has the reason as one sentence. */
  readonly host: LinuxHost | undefined
  readonly hostFault: string | undefined
  /** Returns the shell commands that have the effect of an operation. It works without a data plane, too. */
  readonly describe: (op: HostOp) => readonly string[]
  /** The public key of the tunnel. An agent in no mesh has one already. */
  readonly wireguardKey: WireguardKey
  /** The latest snapshot of the source; before the first one it is empty, with `whole` false. */
  readonly source: SourceSnapshot
  readonly sourceKind: SourceKind
  /** The path of the folder of manifests, or the URL of the API server. */
  readonly sourcePath: string
  /** True when the file of the setting token-file could be read, so that the agent joins without `meshctl join`, or the setting init is given. */
  readonly isToldToJoin: boolean
  readonly health: Health
}
