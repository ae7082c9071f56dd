// Makes the invites that MeshInvites ask for, and writes their tokens into Secrets. mesh-invites.ts asks it in each of its passes.
// Invariants
//   1. An invite is made only when the API server would take the Secret: a try with dryRun comes first. So a name that is taken
//      costs no invite, and a Secret of others is never changed, since a POST does not change what exists.
//   2. This agent notes on its disk for which object it made an invite, before the Secret is written. So after a crash it knows
//      its own Secret, of which it cannot read the content.
//   3. Bounds: OPEN_MAX open invites, HOUR_MAX invites in an hour, TRIES_PER_PASS tries in a pass. One that was refused is tried
//      again after RETRY_MS, those that were never tried first. So thousands of objects cost little and keep none from its turn for
//      ever.
import type { Cidr } from '../../core/model/values.ts'
import { secretCall } from '../../core/mcs/mesh-invite-calls.ts'
import {
  reasonOf,
  type HeldInvite,
  type InviteSpec,
  type InviteState,
  type MadeInvite
} from '../../core/mcs/mesh-invite.ts'
import { hasStatus, type KubeApi } from '../../core/kube/kube-api.ts'
import type { Invitations } from '../enrolment/invitations.ts'
import type { Held } from '../identity/invite.ts'
import { explain, sentence } from '../observe/errors.ts'
import { isOfServer } from './writes.ts'

/** Open invites of all MeshInvites: far more clusters than join a mesh within the life of a token. */
export const OPEN_MAX = 64
/** Invites in an hour: an invite that is taken back takes one of the 1,024 places of its seat in the trust set for ever. */
export const HOUR_MAX = 64
const HOUR_MS = 3_600_000
/** Each try is two requests and, when it succeeds, a write to the disk. */
export const TRIES_PER_PASS = 8
/** Milliseconds after which an object that was refused is tried again: another cluster may have left its name. */
export const RETRY_MS = 30_000

interface InviteMakerOptions {
  readonly api: KubeApi
  /** Of the agent's own objects; the Secrets are there, too. */
  readonly namespace: string
  readonly invitations: Pick<Invitations, 'invite' | 'madeForObjects' | 'takeBack'>
  readonly monotonicMs: () => number
}

/** What a pass knows of an object: nothing yet, or its state. */
type States = ReadonlyMap<HeldInvite, InviteState>

/** One per process, in MeshInvites, whose passes never overlap. */
export class InviteMaker {
  readonly #options: InviteMakerOptions
  /** When each object was last tried, by uid and generation: a spec that was changed is tried at once. */
  readonly #triedMs = new Map<string, number>()
  /** When the invites of the last hour were made. At most HOUR_MAX. */
  #madeMs: readonly number[] = []

  constructor(options: InviteMakerOptions) {
    this.#options = options
  }

  /**
   * Returns the states of objects without an invite that are due. `open`: the objects with an open invite. Rejects with a failure
   * that is the API server's own.
   */
  async make(
    waiting: readonly HeldInvite[],
    open: readonly (HeldInvite & { readonly made: MadeInvite })[],
    mayGoOn: () => boolean
  ): Promise<States> {
    this.#forget(waiting)
    const states = new Map<HeldInvite, InviteState>()
    const nowOpen = [...open]
    let tries = 0
    for (const held of this.#inTurn(waiting)) {
      const refused = this.#refusal(held, nowOpen)
      if (refused !== undefined) states.set(held, refused)
      else if (this.#isDue(held) && tries < TRIES_PER_PASS && mayGoOn()) {
        tries++
        const state = await this.#try(held, nowOpen)
        states.set(held, state)
        if (state.kind === 'open') nowOpen.push({ ...held, made: state.made })
      }
    }
    return states
  }

  /** Why an object gets no invite now, without a try. */
  #refusal(held: HeldInvite, open: readonly HeldInvite[]): InviteState | undefined {
    const { spec } = held
    if (typeof spec === 'string') return refused('InvalidSpec', spec)
    const other = open.find((each) => clusterOf(each) === spec.cluster)
    if (other !== undefined)
      return refused(
        'AlreadyInvited',
        `the MeshInvite ${other.name} has an open invite of cluster ${spec.cluster}: delete one of the two`
      )
    if (open.length >= OPEN_MAX)
      return refused(
        'TooManyInvites',
        `${OPEN_MAX} invites of MeshInvites are open: delete some, or wait until they are used or expire`
      )
    const sinceMs = this.#options.monotonicMs() - HOUR_MS
    this.#madeMs = this.#madeMs.filter((ms) => ms > sinceMs)
    if (this.#madeMs.length >= HOUR_MAX)
      return refused(
        'TooManyInvites',
        `${HOUR_MAX} invites were made in the last hour: the agent goes on by itself`
      )
    return undefined
  }

  /** Makes the invite of one object and writes its Secret. */
  async #try(held: HeldInvite, open: readonly (HeldInvite & { made: MadeInvite })[]): Promise<InviteState> {
    const { spec } = held
    if (typeof spec === 'string') return refused('InvalidSpec', spec)
    this.#triedMs.set(keyOf(held), this.#options.monotonicMs())
    try {
      const isFree = await this.#post(held, spec, { token: 'none', isTry: true })
      const own = this.#options.invitations
        .madeForObjects()
        .find(({ object }) => object === this.objectOf(held))
      if (!isFree) return own === undefined ? secretTaken(spec) : { kind: 'open', made: own }
      return await this.#invite(held, spec, open)
    } catch (error) {
      if (isOfServer(error)) throw error
      return refused(reasonOf(explain(error).code), sentence(error))
    }
  }

  async #invite(
    held: HeldInvite,
    spec: InviteSpec,
    open: readonly (HeldInvite & { made: MadeInvite })[]
  ): Promise<InviteState> {
    const { invitations, monotonicMs } = this.#options
    const { secretName: _, ...asked } = spec
    const object = this.objectOf(held)
    const made = await invitations.invite(
      { ...asked, bootstrap: [], replace: undefined, force: false, namespaces: [...spec.namespaces] },
      { meshInvite: object, reserved: open.flatMap(reservedBy) }
    )
    this.#madeMs = [...this.#madeMs, monotonicMs()]
    const id = made.identity.invites?.at(-1)?.id ?? ''
    if (await this.#post(held, spec, { token: made.token, isTry: false })) {
      const { expiresMs, podPrefixes, servicePrefixes } = made
      return {
        kind: 'open',
        made: { id, expiresMs, podCidrs: podPrefixes, serviceCidrs: servicePrefixes }
      }
    }
    // The Secret of another author came between the try and the write.
    await invitations.takeBack(id)
    return secretTaken(spec)
  }

  /** The object as the identity on disk names it. */
  objectOf({ uid }: Pick<HeldInvite, 'uid'>): string {
    return `${this.#options.namespace}/${uid}`
  }

  /** Creates the Secret, or tries to. Resolves to false when there is a Secret of that name. */
  async #post(
    held: HeldInvite,
    { secretName }: InviteSpec,
    what: { readonly token: string; readonly isTry: boolean }
  ): Promise<boolean> {
    const { api, namespace } = this.#options
    try {
      await api.request(secretCall(held, secretName, { namespace, ...what }))
      return true
    } catch (error) {
      if (hasStatus(error, 409)) return false
      throw error
    }
  }

  #isDue(held: HeldInvite): boolean {
    return this.#options.monotonicMs() - (this.#triedMs.get(keyOf(held)) ?? -Infinity) >= RETRY_MS
  }

  /** Those that were never tried first, the oldest of them first; then by their last try. */
  #inTurn(waiting: readonly HeldInvite[]): readonly HeldInvite[] {
    const tried = (held: HeldInvite): number => this.#triedMs.get(keyOf(held)) ?? -1
    return waiting.toSorted((a, b) => tried(a) - tried(b) || a.createdMs - b.createdMs)
  }

  /** Forgets objects that are gone, so that the map is never larger than the list. */
  #forget(waiting: readonly HeldInvite[]): void {
    const keys = new Set(waiting.map(keyOf))
    for (const key of this.#triedMs.keys()) if (!keys.has(key)) this.#triedMs.delete(key)
  }
}

function keyOf({ uid, generation }: HeldInvite): string {
  return `${uid} ${generation}`
}

function clusterOf({ spec }: HeldInvite): string {
  return typeof spec === 'string' ? '' : spec.cluster
}

/** The prefixes of an open invite, which another gateway may have made and keeps. */
function reservedBy(held: HeldInvite & { readonly made: MadeInvite }): readonly Held[] {
  return [...held.made.podCidrs, ...held.made.serviceCidrs].map((prefix) => ({
    prefix: prefix as Cidr,
    owner: `the open invite of ${clusterOf(held)}`
  }))
}

function refused(reason: string, message: string): InviteState {
  return { kind: 'refused', reason, message }
}

function secretTaken({ secretName }: InviteSpec): InviteState {
  return refused(
    'SecretExists',
    `there is a Secret ${secretName}, which is not changed: delete it, or choose another spec.secretName`
  )
}
