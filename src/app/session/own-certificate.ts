// This agent's credential: it certifies the agent with the cluster's key, and renews the certificate. A certificate has
// no end date. It counts while its generation is one of the cluster's two newest (S8), so the cluster ends the
// certificates of a stolen or cloned gateway by raising its generation.
// Invariants
//   1. The generation of a certificate is on disk before the certificate is shown.
//   2. No two certificates of this agent with one generation say different things: of two, members keep the one with the
//      lower id, so a new node name might never be seen. A change of name or roles therefore raises the generation.
//   3. The generation rises by one each GENERATION_MS, also by the time for which the agent was stopped, and is never
//      below the highest that this agent knows of its cluster.
import type { Crypto } from '../../core/model/crypto.ts'
import { certifyAgent } from '../../core/trust/author/join.ts'
import { keyId, type KeyId } from '../../core/trust/set/ids.ts'
import type { Role } from '../../core/model/values.ts'
import type { MeshRoots } from '../../core/trust/set/mesh-roots.ts'
import type { Identity, Store } from '../../io/store/store.ts'
import type { Shows } from '../control/control-options.ts'
import type { Membership } from '../identity/identity.ts'
import type { Health } from '../observe/health.ts'
import { Loop } from '../../io/timing/loop.ts'

const GENERATION_MS = 15 * 86_400_000
/** Milliseconds between two looks at the generations. The first one comes when the stored credentials were read. */
const LOOK_MS = 60_000
const FIRST_LOOK_MS = 1000
/** Milliseconds: a disk that accepts no writes is tried once in a second at most. */
const MARK_GAP_MS = 1000

interface OwnCertificateOptions {
  readonly crypto: Crypto
  readonly roots: MeshRoots
  /** Ed25519 seed of the cluster's key at the start, 32 bytes: the issuer. */
  readonly clusterSeed: Uint8Array
  /** Ed25519 seed of this agent's key, 32 bytes: the subject, which signs the certificate, too. */
  readonly nodeSeed: Uint8Array
  /** Name of this host, from the setting node-name. */
  readonly node: string
  /** The one role that the certificate allows this agent. The default is `gateway`. */
  readonly role?: Role
  readonly store: Pick<Store, 'identity' | 'changeIdentity'>
}

/** See the head of this file. One for each session. `settle` is called once before the first `make`. */
export class OwnCertificate {
  readonly #options: OwnCertificateOptions
  #clusterSeed: Uint8Array
  #clusterKey: KeyId

  constructor(options: OwnCertificateOptions) {
    this.#options = options
    this.#clusterSeed = options.clusterSeed
    this.#clusterKey = keyId(options.crypto.publicKeyOf(options.clusterSeed))
  }

  /** The key of the cluster that issues it. */
  get clusterKey(): KeyId {
    return this.#clusterKey
  }

  /** Takes the key that has the cluster's place now: all later certificates are signed by it. */
  take(clusterSeed: Uint8Array): void {
    this.#clusterSeed = clusterSeed
    this.#clusterKey = keyId(this.#options.crypto.publicKeyOf(clusterSeed))
  }

  /** The generation of the certificate that is shown. */
  get generation(): number {
    return this.#options.store.identity()?.generation ?? 1
  }

  /**
   * Returns the encoded credential: `clusterItem`, the TrustItem down to the admission, with the agent's certificate.
   * Throws a RangeError when the item does not verify: then this program or the stored identity is wrong.
   */
  make(clusterItem: Uint8Array): Uint8Array {
    const { crypto, roots, nodeSeed, node, role = 'gateway' } = this.#options
    const clusterSeed = this.#clusterSeed
    const { generation } = this
    return certifyAgent(
      { crypto, roots },
      { clusterItem, clusterSeed, agentSeed: nodeSeed, node, roles: [role], generation }
    ).bytes
  }

  /** Returns what this agent shows of itself in a handshake: its credential, or as a newcomer its certificate. */
  shows(stage: Membership['stage']): Shows {
    if (stage.kind !== 'member') return { kind: 'newcomer', certItem: stage.certItem }
    return { kind: 'member', credential: this.make(stage.clusterItem) }
  }

  /**
   * Writes the generation of the next certificate, and what it says. `highest`: the highest generation of this cluster
   * that members have shown. Returns whether that is another certificate than before. Errors: StoreError.
   */
  async settle(highest: number, nowMs = Date.now()): Promise<boolean> {
    const { store, node, role = 'gateway' } = this.#options
    const next = (identity: Identity) => nextCertificate(identity, { node, role, highest, nowMs })
    const known = store.identity()
    if (known === undefined || next(known) === undefined) return false
    await store.changeIdentity((identity) => ({ ...identity, ...next(identity) }))
    return true
  }

  /**
   * Returns a loop that settles each minute, and soon after a mark, and calls `renew` when the certificate has changed.
   * `highest`: the highest generation of each cluster that members have shown. When it fails, the fault CERTIFICATE_NOT_RENEWED is set until it
   * has succeeded.
   */
  loop(highest: () => ReadonlyMap<KeyId, number>, renew: () => void, health: Health): Loop {
    return new Loop({
      act: async () => {
        if (await this.settle(highest().get(this.clusterKey) ?? 0)) renew()
        health.clear('CERTIFICATE_NOT_RENEWED')
      },
      firstMs: FIRST_LOOK_MS,
      intervalMs: LOOK_MS,
      gapMs: MARK_GAP_MS,
      onError: (error) =>
        health.setError('CERTIFICATE_NOT_RENEWED', error, {
          severity: 'error',
          fix: 'mend what the message names; members refuse a certificate that is two generations old, which is 15 days after the next renewal'
        })
    })
  }
}

type CertificateFields = Pick<Identity, 'generation' | 'generationAtMs' | 'certified'>

/** The fields of the identity for the next certificate; undefined: the one before still holds. */
function nextCertificate(
  identity: CertificateFields,
  {
    node,
    role,
    highest,
    nowMs
  }: {
    readonly node: string
    readonly role: Role
    readonly highest: number
    readonly nowMs: number
  }
): Required<CertificateFields> | undefined {
  const { generation = 1, certified } = identity
  // A clock that was wrong for a while must not stop the renewal until that time comes.
  const generationAtMs = Math.min(identity.generationAtMs ?? nowMs, nowMs)
  const isSame = certified?.node === node && certified.roles.join() === role
  const periods = Math.floor((nowMs - generationAtMs) / GENERATION_MS)
  const isChanged = certified !== undefined && !isSame
  const next = Math.max(highest, generation + periods, isChanged ? generation + 1 : 0)
  if (isSame && next === generation && generationAtMs === identity.generationAtMs) return undefined
  return {
    generation: next,
    generationAtMs: next === generation ? generationAtMs : nowMs,
    certified: { node, roles: [role] }
  }
}
