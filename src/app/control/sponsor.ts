// This agent as the sponsor of newcomers: it judges a knock, signs the admission, and answers with it.
// Invariants
//   1. Knocks are judged one after the other, so two newcomers with one token at this door are never both admitted.
//   2. An admission is on disk before it is handed on, and handed on before the newcomer gets it.
//   3. The admission of a key that replaces the own one is given to `save` only: it is handed on with the credential of the
//      new key, since the certificates of the present key end with it.
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
  /** Returns the Ed25519 seed of the cluster key, 32 bytes; it signs admissions. */
  readonly clusterSeed: () => Uint8Array
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
    try {
      return await this.#inTurn(() => this.#admit(knock))
    } catch (error) {
      this.#options.log.error({ err: error }, 'an admission could not be written')
      return { kind: 'reject', ...rejection('busy', 'the sponsor cannot write to its disk'), explain: [] }
    } finally {
      this.#waiting--
    }
  }

  /**
   * Signs, with the present key of this cluster, the admission of the key that replaces it. `certItem` ends in the
   * certificate of the new key. `save` gets the encoded admission, and makes it durable before the next knock is judged. Errors: those of
   * `save`, after which nothing has changed.
   */
  succeed(certItem: Uint8Array, save: (clusterItem: Uint8Array) => Promise<void>): Promise<Answer> {
    const item = this.#options.trust.members.set.open(certItem)
    if (item.kind === 'refused') throw new Error(`our own ${item.statement} is refused: ${item.reason}`)
    const peerSeconds = Math.floor(Date.now() / 1000)
    return this.#inTurn(async () => {
      const { answer } = await this.#judge({ item, bytes: certItem, peerSeconds })
      if (answer.kind === 'admitted') await save(answer.item)
      return answer
    })
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(act)
    this.#turn = result.catch(() => undefined)
    return result
  }

  async #admit(knock: Knock): Promise<Answer> {
    const { trust, log } = this.#options
    const { answer, admits } = await this.#judge(knock)
    if (admits === undefined || answer.kind !== 'admitted') return answer
    await trust.add([answer.item])
    log.info({ cluster: admits.cluster, software: knock.software }, 'admitted a new cluster')
    return answer
  }

  /** The answer to a knock. `admits`: the invite of an admission that was signed now, and is not in the set yet. */
  async #judge({ item, bytes, peerSeconds }: Pick<Knock, 'item' | 'bytes' | 'peerSeconds'>): Promise<{
    readonly answer: Answer
    readonly admits?: Invite
  }> {
    const { crypto, roots, trust, clusterSeed } = this.#options
    // Asked first, so that nothing changes between the verdict and the place that it signs.
    const hidden = await this.#underlayFaultOf(item)
    const credential = this.#options.credential()
    if (credential === undefined)
      return {
        answer: { kind: 'reject', ...rejection('busy', 'the sponsor is no member itself yet'), explain: [] }
      }
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
    if (verdict.kind !== 'admit') return { answer: verdict }
    const admission = admitCluster(
      { crypto, roots },
      { certItem: bytes, sponsorSeed: clusterSeed(), seen: verdict.seen, time: ownNow }
    )
    return { answer: { kind: 'admitted', item: admission.item }, admits: verdict.invite }
  }

  async #underlayFaultOf({ statements }: OpenedItem): Promise<string | undefined> {
    const invite = statements.map(({ statement }) => statement).find(({ kind }) => kind === 'invite')
    return invite?.kind === 'invite' ? this.#options.underlayFault(invite) : undefined
  }
}
