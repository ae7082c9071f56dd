// `meshctl key rotate --cluster`: the running cluster redeems an invite that replaces its own key. The present key admits
// the new one, so no other member has to be connected (docs/decisions/0069).
// Invariants
//   1. The new key is in the Secret and on the disk before any member hears of it. The write of identity.json decides: before
//      it, the old key stays and the new one is worth nothing; after it, the next start shows the new key.
//   2. The admission leaves this agent together with the credential of the new key, so a member that drops the old
//      key has this gateway under the new one.
import type { Requests } from '../../api/requests.ts'
import { codeOfKind } from '../../core/model/coded-error.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import { equalBytes } from '../../core/model/bytes.ts'
import type { Origin } from '../../core/model/values.ts'
import { certifyCluster } from '../../core/trust/author/join.ts'
import { decodeInviteToken } from '../../core/trust/invite-token.ts'
import { keyId, type KeyId } from '../../core/trust/set/ids.ts'
import type { Identity, Store } from '../../io/store/store.ts'
import { base64 } from '../identity/encoding.ts'
import { admitted, joinedWith, pendingMembership, type Membership } from '../identity/identity.ts'
import { sharedOf } from '../identity/shared-identity.ts'
import { AppError } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import type { CurrentSession } from '../session/current-session.ts'
import type { Session } from '../session/session.ts'
import type { Enrolment } from './enrolment.ts'
import type { GatewayInvites } from './gateway-invites.ts'
import type { Invitations } from './invitations.ts'
import type { SharedKey } from './shared-key.ts'

/** Seconds: the invite of the own seat is redeemed at once, so it lives only as long as a slow disk may need. */
const INVITE_SECONDS = 600

interface KeySuccessionOptions {
  readonly current: CurrentSession
  readonly store: Pick<Store, 'identity' | 'changeIdentity'>
  /** The key that the gateways share in a Secret; undefined without a Kubernetes API. */
  readonly sharedKey: Pick<SharedKey, 'succeed'> | undefined
  readonly enrolment: Pick<Enrolment, 'isChanging' | 'isLeaving' | 'alone'>
  readonly gateways: Pick<GatewayInvites, 'keepHeirs'>
  readonly invitations: Pick<Invitations, 'invite'>
  readonly crypto: Crypto
  readonly log: Log
}

/** The keys of the cluster, before and after. */
interface Succeeded {
  readonly cluster: string
  readonly before: KeyId
  readonly clusterKey: KeyId
  readonly neighbours: number
  /** The agents of a site without Kubernetes that may ask for the new key. */
  readonly kept: readonly Origin[]
  /** The other ones, which have the old key only. */
  readonly ended: readonly Origin[]
}

/** See the head of this file. One per process. */
export class KeySuccession {
  readonly #options: KeySuccessionOptions

  constructor(options: KeySuccessionOptions) {
    this.#options = options
  }

  /**
   * Gives this cluster a new key in the place of the present one. Errors: AppError NOT_JOINED, NOT_ADMITTED, KEY_CHANGING,
   * GATEWAYS_END, TOKEN_*, TOKEN_OTHER_CLUSTER, MESH_* when the invite does not count, BAD_ARGUMENT for `keep`, those of Invitations.invite and SharedKey.succeed;
   * StoreError. After all of them the present key stays.
   */
  async rotate({ token, keep, force }: Requests['clusterKeyRotate']): Promise<Succeeded> {
    const { current, enrolment } = this.#options
    const session = current.required()
    if (enrolment.isChanging || enrolment.isLeaving)
      throw new AppError(
        'KEY_CHANGING',
        'another change of the membership of this agent is under way',
        'wait for it to end, then run the command again'
      )
    // A leave that began now would end the cluster, or lose the new key.
    return enrolment.alone(async () => {
      const others = this.#othersOfSite(session)
      const stranger = keep.find((named) => !others.some((other) => other === named))
      if (stranger !== undefined) throw noHeir(stranger, others)
      const kept = others.filter((one) => keep.includes(one))
      const ended = others.filter((one) => !keep.includes(one))
      if (ended.length > 0 && !force) throw gatewaysEnd(ended)
      const text = token ?? (await this.#ownInvite(session))
      return { ...(await this.#replace(session, text, kept)), kept, ended }
    })
  }

  async #replace(
    session: Session,
    token: string,
    heirs: readonly Origin[]
  ): Promise<Omit<Succeeded, 'kept' | 'ended'>> {
    const { crypto, gateways, log } = this.#options
    const { membership, control } = session
    const { roots, cluster } = membership
    const before = this.#keyOf(membership)
    const { inviteItem, inviteSeed } = this.#checked(token, membership)
    const clusterSeed = crypto.random(32)
    const { item } = certifyCluster({ crypto, roots }, { inviteItem, inviteSeed, clusterSeed })
    await gateways.keepHeirs(heirs, keyId(crypto.publicKeyOf(clusterSeed)))
    const answer = await control.succeed(item, (clusterItem) =>
      this.#save({ token, clusterSeed, clusterItem })
    )
    if (answer.kind === 'reject') throw refused(answer)
    const identity = this.#identity()
    session.renew(pendingMembership(identity, crypto))
    const clusterKey = this.#keyOf(session.membership)
    log.info({ cluster, before, clusterKey }, 'this cluster has a new key')
    return { cluster, before, clusterKey, neighbours: control.neighbours().length }
  }

  /** Invariant 1: the Secret first, so that no other gateway can miss a key that counts. */
  async #save(key: { token: string; clusterSeed: Uint8Array; clusterItem: Uint8Array }): Promise<void> {
    const { crypto, store, sharedKey } = this.#options
    const renewed = (identity: Identity) =>
      joinedWith(admitted({ ...identity, clusterSeed: base64(key.clusterSeed) }, key.clusterItem), {
        crypto,
        token: key.token
      })
    await sharedKey?.succeed(sharedOf(this.#identity(), crypto), sharedOf(renewed(this.#identity()), crypto))
    await store.changeIdentity(renewed)
  }

  /** A token that a seat of this agent signs. Errors: those of Invitations.invite. */
  async #ownInvite({ membership: { cluster } }: Session): Promise<string> {
    const [podCidrs, serviceCidrs, namespaces, bootstrap] = [[], [], [], []]
    const prefixes = { podCidrs, serviceCidrs, namespaces, bootstrap }
    const request = { cluster, ...prefixes, ttlSeconds: INVITE_SECONDS, replace: cluster, force: true }
    try {
      return (await this.#options.invitations.invite(request, { mayReplaceOwn: true })).token
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'NO_SEAT') throw error
      throw new AppError(
        'NO_SEAT',
        error.message,
        `let an administrator make a token (\`meshctl invite ${cluster} --replace --force\`), and run \`meshctl key rotate --cluster --token-file <file>\` here`,
        { cause: error }
      )
    }
  }

  /** Checks that a token is for the place and the name of this cluster. Errors: AppError TOKEN_*. */
  #checked(text: string, membership: Membership) {
    const { crypto } = this.#options
    const nowSeconds = Math.floor(Date.now() / 1000)
    const token = decodeInviteToken(text, { crypto, nowSeconds, meshId: undefined })
    if (token.kind === 'refused')
      throw new AppError(codeOfKind('TOKEN', token.code), `token: ${token.message}`, token.fix)
    const { invite, roots } = token
    const { cluster } = membership
    const isOurs = equalBytes(roots.meshId, membership.roots.meshId) && invite.cluster === cluster
    if (isOurs && invite.replaces === this.#keyOf(membership)) return token
    throw new AppError(
      'TOKEN_OTHER_CLUSTER',
      `token: it is not for a new key in the place of the present key of cluster ${cluster} in this mesh`,
      `let an administrator make one for it now: \`meshctl invite ${cluster} --replace --force\``
    )
  }

  /** The other agents of this cluster, when they cannot get the new key from a Secret. */
  #othersOfSite({ control, membership }: Session): readonly Origin[] {
    if (this.#options.sharedKey !== undefined) return []
    const { members, origin } = control
    const own = this.#keyOf(membership)
    return [...members.origins()].filter(
      (other) => other !== origin && members.agentOf(other)?.clusterKey === own
    )
  }

  #identity() {
    const identity = this.#options.store.identity()
    if (identity === undefined) throw new Error('a session has an identity')
    return identity
  }

  #keyOf({ clusterSeed }: Membership): KeyId {
    return keyId(this.#options.crypto.publicKeyOf(clusterSeed))
  }
}

function gatewaysEnd(ended: readonly Origin[]): AppError {
  return new AppError(
    'GATEWAYS_END',
    `${ended.length} other agents of this cluster would not get the new key, and end with the present one: ${ended.join(', ')}`,
    'name each of them that is yours with --keep <PeerId>, and it gets the new key by itself; --force ends the others'
  )
}

/** A PeerId of --keep to which no key may be given. */
function noHeir(named: string, others: readonly Origin[]): AppError {
  return new AppError(
    'BAD_ARGUMENT',
    `keep: ${named} is no other gateway of this site`,
    others.length === 0
      ? 'leave --keep out: no other agent of this cluster needs the key from this one'
      : `name agents of this list: ${others.join(', ')}`
  )
}

/** The refusal of this agent's own door. */
function refused({ code, detail }: { readonly code: string; readonly detail: string }): AppError {
  const at = detail.indexOf('; ')
  const [reason, fix] =
    at < 0 ? [detail, 'see `meshctl trust status`'] : [detail.slice(0, at), detail.slice(at + 2)]
  return new AppError(codeOfKind('MESH', code), `the new key was not admitted: ${reason}`, fix)
}
