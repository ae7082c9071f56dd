// The membership of this agent during one session, and the credential that it shows of it: a newcomer becomes a member,
// another admission can come, and the certificate is renewed, while the session runs.
import type { Control } from '../control/control.ts'
import type { Prefixes } from '../../core/model/prefixes.ts'
import { OwnSide, type HiddenPrefix } from '../../core/view/own-side.ts'
import { pairPrefixes, realPrefixes } from '../../core/model/translation.ts'
import type { Shows } from '../control/control-options.ts'
import { realPrefixesField, translated, type Membership } from '../identity/identity.ts'
import { AppError } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'
import type { Loop } from '../../io/timing/loop.ts'
import type { Store } from '../../io/store/store.ts'
import type { Log } from '../observe/log.ts'
import { setTranslationFaults } from './translation-faults.ts'
import type { OwnCertificate } from './own-certificate.ts'

interface OwnMembershipOptions {
  readonly membership: Membership
  /** Certifies this agent; settled already. */
  readonly certificate: OwnCertificate
  /** The control plane, which is made after the membership. */
  readonly control: () => Pick<Control, 'members' | 'origin' | 'renewed'>
  readonly health: Health
  readonly log: Log
  readonly store: Pick<Store, 'identity' | 'changeIdentity'>
  /** Called on a newcomer that a member has admitted; resolves when the item is on disk. */
  readonly onAdmitted: (clusterItem: Uint8Array) => Promise<void>
}

/** The generation of the cluster's certificates, before and after a renewal. */
interface Renewed {
  readonly before: number
  readonly generation: number
}

/** See the head of this file. */
export class OwnMembership {
  readonly #options: OwnMembershipOptions
  readonly #renewal: Loop
  /** Shows the own cluster with its real addresses. */
  readonly side = new OwnSide()
  #judged: { readonly hidden?: readonly HiddenPrefix[]; readonly real?: Membership['realPrefixes'] } = {}
  #current: Membership
  #isAdmitted: boolean

  constructor(options: OwnMembershipOptions) {
    const { membership, certificate, control, health } = options
    this.#options = options
    ;[this.#current, this.#isAdmitted] = [membership, membership.stage.kind === 'member']
    this.side.use(membership.translation)
    const generations = () => control().members.generations()
    this.#renewal = certificate.loop(generations, () => this.#showCredential(), health)
  }

  /** Starts the renewal of the certificate. */
  start(): void {
    this.#renewal.start()
  }

  stop(): Promise<void> {
    setTranslationFaults(this.#options.health, {
      cluster: this.#current.cluster,
      hidden: [],
      realPrefixes: []
    })
    return this.#renewal.stop()
  }

  get current(): Membership {
    return this.#current
  }

  /** The prefixes of this cluster as its own hosts and objects have them; `current` has those of the mesh. */
  get realPrefixes(): Prefixes {
    return realPrefixes(this.#current, this.#current.translation)
  }

  /** Whether a member has accepted this agent, so that the host is programmed. */
  get isAdmitted(): boolean {
    return this.#isAdmitted
  }

  /** Called when a member has accepted this agent. */
  admit(): void {
    this.#isAdmitted = true
  }

  /** What this agent shows of itself when its session starts. */
  shows(): Shows {
    return this.#options.certificate.shows(this.#current.stage)
  }

  /** A member has admitted this newcomer: the membership is saved, and the agent shows its credential from now on. */
  async admitted(clusterItem: Uint8Array): Promise<Uint8Array> {
    await this.#options.onAdmitted(clusterItem)
    this.#current = { ...this.#current, stage: { kind: 'member', clusterItem } }
    return this.#options.certificate.make(clusterItem)
  }

  /**
   * Takes the prefixes that the trust set gives this cluster now, as after a Grant or after a contest. Returns whether they
   * are others than before; then they are on disk soon, so that a restart begins with them.
   */
  followPrefixes(): boolean {
    const { stage, cluster, podPrefixes, servicePrefixes, realPrefixes: known } = this.#current
    const settled = this.#options.control().members.settlement().get(cluster)
    if (stage.kind !== 'member' || settled?.clusterKey !== this.#options.certificate.clusterKey) return false
    const isSame =
      sameMembers(settled.podPrefixes, podPrefixes) && sameMembers(settled.servicePrefixes, servicePrefixes)
    if (isSame) return false
    const prefixes = { podPrefixes: settled.podPrefixes, servicePrefixes: settled.servicePrefixes }
    const real = translated(pairPrefixes(known, prefixes).prefixes)
    this.#current = { ...this.#current, ...prefixes, ...real }
    this.side.use(real.translation)
    this.#options.log.info(prefixes, 'the prefixes of this cluster have changed')
    void this.#save(this.#current)
    return true
  }

  async #save(prefixes: Pick<Membership, 'podPrefixes' | 'servicePrefixes' | 'realPrefixes'>): Promise<void> {
    const { store, log } = this.#options
    const saved = {
      podPrefixes: [...prefixes.podPrefixes],
      servicePrefixes: [...prefixes.servicePrefixes],
      ...realPrefixesField(prefixes.realPrefixes)
    }
    // After a failure the trust set on disk says it again at the next start.
    await store
      .changeIdentity((identity) => ({ ...identity, ...saved }))
      .catch((error: unknown) => {
        log.warn({ err: error }, 'the new prefixes of this cluster could not be saved')
      })
  }

  /** Takes another admission of the cluster, perhaps with other prefixes or for the key that replaces the one before. */
  renew(membership: Membership): void {
    this.#current = membership
    this.side.use(membership.translation)
    this.#options.certificate.take(membership.clusterSeed)
    this.#showCredential()
  }

  /**
   * Takes a higher generation that another gateway of the cluster has shown, and judges the translation. Called when the
   * members have changed.
   */
  follow(): void {
    const { certificate } = this.#options
    if (this.#highest() > certificate.generation) this.#renewal.mark()
    this.#judge()
  }

  /** Tells what is not reached because of the translation; cheap while nothing has changed. */
  #judge(): void {
    const { hidden } = this.side
    const { cluster, realPrefixes: real } = this.#current
    if (this.#judged.hidden === hidden && this.#judged.real === real) return
    this.#judged = { hidden, real }
    setTranslationFaults(this.#options.health, { cluster, hidden, realPrefixes: real })
  }

  /**
   * Makes a certificate of the next generation of the cluster. Members count the two newest, so a copy of an older
   * certificate ends with the second renewal. The other gateways follow when they hear of it. `force`: also when one of
   * them would fall by it. Errors: AppError GATEWAYS_BEHIND; StoreError.
   */
  async renewCertificate({ force }: { readonly force: boolean }): Promise<Renewed> {
    const { certificate } = this.#options
    const before = Math.max(certificate.generation, this.#highest())
    const behind = this.#gatewaysBelow(before)
    if (behind.length > 0 && !force)
      throw new AppError(
        'GATEWAYS_BEHIND',
        `${behind.length} other gateways of this cluster still show a certificate older than generation ${before}, for example ${behind[0]}: members would turn them away`,
        'wait until they have renewed theirs, which takes seconds; if they are gone for good, repeat with --force'
      )
    await certificate.settle(before + 1)
    this.#showCredential()
    return { before, generation: certificate.generation }
  }

  /** The highest generation of this cluster that members have shown. */
  #highest(): number {
    const { control, certificate } = this.#options
    return control().members.generations().get(certificate.clusterKey) ?? 0
  }

  /** The nodes of other gateways of this cluster that stand by a certificate of an older generation. */
  #gatewaysBelow(generation: number): readonly string[] {
    const { control, certificate } = this.#options
    const { members, origin } = control()
    return [...members.origins()].flatMap((other) => {
      const agent = members.agentOf(other)
      const isBehind = agent?.clusterKey === certificate.clusterKey && agent.generation < generation
      return agent !== undefined && isBehind && other !== origin ? [agent.node] : []
    })
  }

  /** Shows a new certificate in all later handshakes; a newcomer has none. */
  #showCredential(): void {
    const shows = this.shows()
    if (shows.kind === 'member') this.#options.control().renewed(shows.credential, this.#current.clusterSeed)
  }
}

/** Whether two lists have the same texts, in any order. */
function sameMembers(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && left.every((text) => right.includes(text))
}
