// Checks the parts of the agent once a second. Their faults go into the registry of health, from which the log,
// `meshctl status` and the metrics have them. The watch also lets StoreKeeper mend the state folder, and closes invites
// whose cluster has become a member. Each part keeps its own fault, and the watch reads it, so that no part needs to
// know the registry.
import type { Role } from '../../core/model/values.ts'
import type { Store } from '../../io/store/store.ts'
import { Loop } from '../../io/timing/loop.ts'
import type { OwnCoredns } from '../cluster-dns/managed-coredns.ts'
import type { OwnObjects } from '../mcs/own-objects.ts'
import type { PodDns } from '../cluster-dns/pod-dns.ts'
import type { Enrolment } from '../enrolment/enrolment.ts'
import type { Invitations } from '../enrolment/invitations.ts'
import type { KeyInheritance } from '../enrolment/key-inheritance.ts'
import type { SharedKey } from '../enrolment/shared-key.ts'
import type { DataPlane } from '../host/data-plane.ts'
import { READ_LOG } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { tellParts, type PartFault } from '../observe/part-fault.ts'
import type { CurrentSession } from '../session/current-session.ts'
import { manifestsDiffer } from '../sources/manifest-difference.ts'
import { nodesWithoutAgent } from '../sources/node-coverage.ts'
import type { SourceFacts } from '../sources/source-facts.ts'
import type { Source } from '../sources/source.ts'
import type { StoreKeeper } from './store-keeper.ts'

const INTERVAL_MS = 1000
/** What the operator does when this agent does not stand any more, by the code of the verdict. */
const ENDED_FIXES = {
  barred:
    'an administrator can take it back (`meshctl restore <cluster>`); to join anew, run `meshctl leave` here, then `meshctl join` with a new token',
  replaced:
    'if another host has taken the place of this one, run `meshctl leave` here; if another gateway of this site has replaced the key of the cluster with --keep for this PeerId, wait: the key comes when that gateway can be reached; without --keep leave and join with a token of `meshctl invite --gateway` from there; if not, ask an administrator who joined with the token, and for a new one (`meshctl invite <cluster> --replace`)',
  void: 'ask an administrator to adopt this cluster (`meshctl decide`); to join anew, run `meshctl leave` here, then `meshctl join` with a new token'
} as const

/**
 * The parts that are checked. Those that may be undefined exist only with a Kubernetes API or a Corefile (agent.ts).
 */
interface PartWatchOptions {
  readonly store: Store
  readonly keeper: StoreKeeper
  readonly dataPlane: DataPlane
  readonly source: Source
  readonly role: Role
  readonly facts: SourceFacts
  readonly sharedKey: SharedKey | undefined
  readonly inheritance: Pick<KeyInheritance, 'look'>
  readonly podDns: PodDns | undefined
  readonly ownObjects: OwnObjects | undefined
  readonly ownCoredns: OwnCoredns | undefined
  readonly current: CurrentSession
  readonly enrolment: Enrolment
  readonly invitations: Invitations
  readonly health: Health
  readonly metrics: Metrics
  readonly log: Log
}

/** Checks all parts, once a second, from before the first session until the agent stops. One per process. */
export class PartWatch {
  readonly #options: PartWatchOptions
  readonly #looks: Loop
  /** Whether another key had the place of this cluster's at the last look. */
  #isReplaced = false
  /**
   * Says when this cluster or agent does not stand any more, as far as this agent knows: every member turns it away, and
   * no retry helps. A certificate of an old generation is no such end, since the agent renews it.
   */
  #lookAtStanding(): void {
    const { current, health } = this.#options
    const { session } = current
    const verdict = session?.control.members.verdictOn(session.control.origin)
    const isReplaced = verdict?.kind === 'fallen' && verdict.code === 'replaced'
    // Another gateway may have replaced the key of this cluster. Its Secret has the new one.
    if (isReplaced && !this.#isReplaced) this.#options.sharedKey?.hurry()
    this.#options.inheritance.look(isReplaced)
    this.#isReplaced = isReplaced
    if (verdict?.kind !== 'fallen' || verdict.code === 'generation') return health.clear('MEMBERSHIP_ENDED')
    health.set('MEMBERSHIP_ENDED', {
      severity: 'critical',
      message: `this agent is no member of the mesh any more: ${verdict.reason}`,
      fix: ENDED_FIXES[verdict.code]
    })
  }

  /**
   * Closes invites whose cluster has become a member. It is a loop of its own, because it writes to the disk: a slow
   * disk must not delay the check of the parts.
   */
  readonly #invites: Loop

  constructor(options: PartWatchOptions) {
    this.#options = options
    const times = { intervalMs: INTERVAL_MS, firstMs: INTERVAL_MS }
    this.#looks = new Loop({
      ...times,
      act: async () => {
        this.look()
        void options.keeper.look()
      }
    })
    this.#invites = new Loop({ ...times, act: () => this.#closeInvites() })
  }

  /** Starts the checks; the first comes after INTERVAL_MS. */
  start(): void {
    this.#looks.start()
    this.#invites.start()
  }

  /**
   * Stops both loops. Resolves when an identity that is being written is on disk. StoreKeeper ends its own checks of
   * the state folder.
   */
  async stop(): Promise<void> {
    await this.#looks.stop()
    await this.#invites.stop()
  }

  /**
   * Copies the present faults of all parts into the registry of health and updates the metrics. Synchronous and cheap:
   * /v1/status and /readyz call it for each request, too.
   */
  look(): void {
    const { store, dataPlane, podDns, ownObjects, ownCoredns, source, sharedKey, current, health, metrics } =
      this.#options
    const { session } = current
    const told = (text: string): PartFault => ({ message: text, fix: '' })
    tellParts(health, {
      STORE: store.warnings.map(told),
      HOST_SETUP: [...dataPlane.warnings].map(told),
      CLUSTER_DNS: podDns?.faults ?? [],
      MULTICLUSTER: ownObjects?.multicluster?.faults ?? [],
      MESH_PEERS: ownObjects?.peers.faults ?? [],
      MESH_INVITES: ownObjects?.invites.faults ?? [],
      MANAGED_COREDNS: ownCoredns?.faults ?? [],
      SOURCE: [source.fault],
      CLUSTER_KEY: [sharedKey?.fault],
      CONTROL: (session?.control.warnings ?? []).map(told),
      DNS_FAILED: [session?.faults.get('dns')],
      PROBE_FAILED: [session?.faults.get('probe')],
      FEED_FAILED: [session?.faults.get('feed')]
    })
    this.#lookAtPass()
    this.#lookAtNodes()
    this.#lookAtManifests()
    this.#lookAtStanding()
    metrics.tellHealth(health)
  }

  /**
   * A pass that ended with an unexpected error is critical: the host does not follow the mesh until a later pass
   * succeeds. Operations that fail are no such error; they have faults of their own.
   */
  #lookAtPass(): void {
    const { current, health } = this.#options
    const failed = current.session?.reconciler?.fault
    if (failed === undefined) health.clear('HOST_PASS')
    else
      health.set('HOST_PASS', {
        severity: 'critical',
        message: `the last pass over this host ended with an unexpected error: ${failed}`,
        fix: `${READ_LOG}; the host keeps its state, and the agent repeats the pass every 2 s`
      })
  }

  /**
   * Compares the Nodes of the cluster with the agents in the view: pods of a Node without an agent may not reach other
   * clusters.
   */
  #lookAtNodes(): void {
    const { current, facts, health } = this.#options
    const view = current.session?.control.view()
    const agents = view?.clusters.get(view.self)?.agents ?? []
    const fault = nodesWithoutAgent(
      facts.nodes,
      agents.map(({ agent }) => agent.node)
    )
    if (fault === undefined) health.clear('NODES_WITHOUT_AGENT')
    else health.set('NODES_WITHOUT_AGENT', fault)
  }

  /** Compares the manifests of a gateway that does not speak for its site with those that count. */
  #lookAtManifests(): void {
    const { current, facts, source, health, role } = this.#options
    const view = current.session?.control.view()
    const own = view?.clusters.get(view.self)
    const { snapshot, whole } = facts.snapshot
    const isOther =
      source.kind === 'folder' && role === 'gateway' && whole && own?.complete === true && !facts.isSpeaker
    const speaker = own?.agents.toSorted((a, b) => (b.term ?? 0) - (a.term ?? 0))[0]?.agent.node
    const fault = isOther ? manifestsDiffer(snapshot, own.services, speaker ?? 'another gateway') : undefined
    if (fault === undefined) health.clear('MANIFESTS_DIFFER')
    else health.set('MANIFESTS_DIFFER', fault)
  }

  /**
   * Closes invites whose cluster has become a member. Does nothing while init, join or leave is under way, because
   * these write the identity, too. Never rejects.
   */
  async #closeInvites(): Promise<void> {
    const { enrolment, invitations, log } = this.#options
    if (enrolment.isChanging) return
    try {
      await invitations.closeRedeemed()
    } catch (error) {
      log.warn({ err: error }, 'a redeemed invite could not be closed; the agent tries again every second')
    }
  }
}
