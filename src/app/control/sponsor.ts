// This agent as the sponsor of newcomers: it judges a knock, signs the admission, and answers with it.
// Invariants
//   1. Knocks are judged one after the other, so two newcomers with one token at this door are never both admitted.
//   2. An admission is on disk before it is handed on, and handed on before the newcomer gets it.
import type { Crypto } from '../../core/model/crypto.ts'
import { admitCluster } from '../../core/trust/author/join.ts'
import type { HandshakeOutcome, Answer } from '../../core/trust/door/port.ts'
import { judgeDoor, seatsOf } from '../../core/trust/door/judge-door.ts'
import { rejection } from '../../core/trust/door/codes.ts'
import type { Credential } from '../../core/trust/members/credential.ts'
import type { OpenedItem } from '../../core/trust/set/form.ts'
import type { KeyId } from '../../core/trust/set/ids.ts'
import type { MeshRoots } from '../../core/trust/set/mesh-roots.ts'
import type { Invite } from '../../core/trust/set/statement.ts'
import type { Log } from '../observe/log.ts'
import type { MeshTrust } from './mesh-trust.ts'

/** Knocks that wait for their turn. Each costs some signatures and one write to the disk. */
const WAITING_MAX = 16

type Knock = Extract<HandshakeOutcome, { kind: 'knock' }>

interface SponsorOptions {
  readonly crypto: Crypto
  readonly roots: MeshRoots
  /** Ed25519 seed of the cluster key, 32 bytes; it signs admissions. */
  readonly clusterSeed: Uint8Array
  readonly trust: MeshTrust
  readonly log: Log
  /** What this agent shows of itself; undefined while it is no member. */
  readonly credential: () => Credential | undefined
  /** Seconds by which the clocks of neighbours are ahead of this host's, by cluster; the own cluster is not among them. */
  readonly skews: () => ReadonlyMap<KeyId, readonly number[]>
  /** Why the prefixes of an invite cannot be used beside the networks of hosts, as a clause; undefined when they can. */
  readonly underlayFault: (invite: Invite) => Promise<string | undefined>
}

/** See the head of this file. */
export class Sponsor {
  readonly #options: SponsorOptions
  #turn: Promise<unknown> = Promise.resolve()
  #waiting = 0

  constructor(options: SponsorOptions) {
    this.#options = options
  }

  /** Answers a knock. Never rejects: a disk that accepts no writes is a reason to try the next member. */
  async answer(knock: Knock): Promise<Answer> {
    if (this.#waiting >= WAITING_MAX)
      return { kind: 'reject', ...rejection('busy', `${WAITING_MAX} newcomers knock at once`), explain: [] }
    this.#waiting++
    const answered = this.#turn.then(() => this.#judge(knock))
    this.#turn = answered.catch(() => undefined)
    try {
      return await answered
    } catch (error) {
      this.#options.log.error({ err: error }, 'an admission could not be written')
      return { kind: 'reject', ...rejection('busy', 'the sponsor cannot write to its disk'), explain: [] }
    } finally {
      this.#waiting--
    }
  }

  async #judge({ item, bytes, peerSeconds, software }: Knock): Promise<Answer> {
    const { crypto, roots, trust, log, clusterSeed } = this.#options
    // Asked first, so that nothing changes between the verdict and the place that it signs.
    const hidden = await this.#underlayFaultOf(item)
    const credential = this.#options.credential()
    if (credential === undefined)
      return { kind: 'reject', ...rejection('busy', 'the sponsor is no member itself yet'), explain: [] }
    trust.learn([seatsOf(item)])
    const { members } = trust
    const ownNow = Math.floor(Date.now() / 1000)
    const verdict = judgeDoor(
      { set: members.set, standing: members.standing(), claims: members.claims() },
      { item, peerSeconds },
      {
        credential,
        clocks: { ownNow, neighbourSkews: this.#options.skews() },
        quota: () => undefined,
        underlay: () => (hidden === undefined ? undefined : { code: 'underlay', reason: hidden })
      }
    )
    if (verdict.kind !== 'admit') return verdict
    const admission = admitCluster(
      { crypto, roots },
      { certItem: bytes, sponsorSeed: clusterSeed, seen: verdict.seen, time: ownNow }
    )
    await trust.add([admission.item])
    log.info({ cluster: verdict.invite.cluster, software }, 'admitted a new cluster')
    return { kind: 'admitted', item: admission.item }
  }

  async #underlayFaultOf({ statements }: OpenedItem): Promise<string | undefined> {
    const invite = statements.map(({ statement }) => statement).find(({ kind }) => kind === 'invite')
    return invite?.kind === 'invite' ? this.#options.underlayFault(invite) : undefined
  }
}
