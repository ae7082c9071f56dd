// A mesh for the tests of the trust set: administrators, clusters and what they sign. Keys and signatures are hashes
// (fake-crypto.ts), so that thousands of statements cost milliseconds; form.test.ts uses Ed25519.
import assert from 'node:assert/strict'
import { createFakeCrypto } from '../../../sim/fake-crypto.ts'
import type { Crypto } from '../../../../src/core/model/crypto.ts'
import { agentJudge, type AgentStanding } from '../../../../src/core/trust/set/agents.ts'
import { BOUNDS, type Bounds } from '../../../../src/core/trust/set/bounds.ts'
import { claimsOf } from '../../../../src/core/trust/set/claims.ts'
import { encodeItem } from '../../../../src/core/trust/set/form.ts'
import { type Signers, signStatement } from '../../../../src/core/trust/set/signatures.ts'
import { FORM_RULES, type FormRules } from '../../../../src/core/trust/set/form-rules.ts'
import { keyId, shortOf, type KeyId, type StatementId } from '../../../../src/core/trust/set/ids.ts'
import { meshRoots, type MeshRoots } from '../../../../src/core/trust/set/mesh-roots.ts'
import { ownershipOf, type Owners } from '../../../../src/core/trust/set/ownership.ts'
import { type PrefixRange, rangeOf } from '../../../../src/core/trust/set/prefix-range.ts'
import { evaluateTrust } from '../../../../src/core/trust/set/standing.ts'
import { STANDING_RULES, type StandingRules } from '../../../../src/core/trust/set/standing-rules.ts'
import type { Draft, Rights } from '../../../../src/core/trust/set/statement.ts'
import { createTrustSet, type TrustSet } from '../../../../src/core/trust/set/trust-set.ts'
import { cidr, clusterName, NOW } from '../fixtures.ts'

/** Something signed: its id, its own envelope, and the item with everything that it stands on. */
export interface Thing {
  readonly id: StatementId
  readonly envelopes: readonly Uint8Array[]
  readonly item: Uint8Array
}

export interface TestSeat extends Thing {
  readonly seed: Uint8Array
}

export interface TestInvite extends Thing {
  readonly seed: Uint8Array
  readonly name: string
}

export interface TestCluster extends Thing {
  readonly seed: Uint8Array
  readonly key: KeyId
}

/** The rules of one run; P10 replaces one of them. */
export interface Rules {
  readonly form: FormRules
  readonly standing: StandingRules
}

export const RULES: Rules = { form: FORM_RULES, standing: STANDING_RULES }

export function ranges(texts: readonly string[]): readonly PrefixRange[] {
  return texts.map((text) => rangeOf(cidr(text)))
}

export class World {
  readonly crypto: Crypto
  readonly roots: MeshRoots
  readonly #rootSeeds: readonly Uint8Array[]
  /** Unix seconds by every clock of this mesh. */
  readonly #now: number
  #count = 0

  constructor(
    options: {
      readonly crypto?: Crypto
      readonly k?: number
      readonly roots?: number
      readonly now?: number
    } = {}
  ) {
    this.#now = options.now ?? NOW
    const base = options.crypto ?? createFakeCrypto()
    // Every nonce and seed is another one, and the same in each run.
    this.crypto = { ...base, random: (bytes) => base.sha256(this.#next()).subarray(0, bytes) }
    this.#rootSeeds = Array.from({ length: options.roots ?? 1 }, () => this.crypto.random(32))
    const keys = this.#rootSeeds.map((seed) => this.crypto.publicKeyOf(seed))
    this.roots = meshRoots(this.crypto, options.k ?? 1, keys)
  }

  /** The seeds of all roots, in the order in which they were made. */
  get rootSeeds(): readonly Uint8Array[] {
    return this.#rootSeeds
  }

  set(rules: Rules = RULES, bounds: Bounds = BOUNDS): TrustSet {
    return createTrustSet({ crypto: this.crypto, roots: this.roots, rules: rules.form }, bounds)
  }

  sign(draft: Draft, signers: Signers, parents: readonly Uint8Array[] = []): Thing {
    const { id, envelope } = signStatement(this, draft, signers)
    const envelopes = [...parents, envelope]
    return { id, envelopes, item: encodeItem(envelopes) }
  }

  /** Signed by k roots, or by as many as given. */
  byRoots(draft: Draft, count = this.roots.k): Thing {
    return this.sign(draft, { roots: this.#rootSeeds.slice(0, count) })
  }

  seat(
    options: Partial<Omit<Rights, 'prefixes'>> & { under?: TestSeat; prefixes?: readonly string[] } = {}
  ): TestSeat {
    const { under, ...rights } = options
    const seed = this.crypto.random(32)
    const draft: Draft = {
      kind: 'seat',
      under: under?.id,
      adminKey: this.keyOf(seed),
      label: 'admin',
      names: ['*'],
      inviteDaysMax: 30,
      clustersMax: under === undefined ? 2048 : 64,
      maySeat: true,
      ...rights,
      prefixes: ranges(rights.prefixes ?? ['0.0.0.0/0', '::/0'])
    }
    const thing =
      under === undefined ? this.byRoots(draft) : this.sign(draft, { issuer: under.seed }, under.envelopes)
    return { ...thing, seed }
  }

  found(name: string, pods: readonly string[] = []): TestCluster {
    const seed = this.crypto.random(32)
    const key = this.keyOf(seed)
    const draft: Draft = {
      kind: 'clusterCert',
      invite: undefined,
      name: clusterName(name),
      clusterKey: key,
      pods: ranges(pods),
      services: []
    }
    const thing = this.sign(draft, { roots: this.#rootSeeds.slice(0, this.roots.k), accepting: seed })
    return { ...thing, seed, key }
  }

  invite(
    seat: TestSeat,
    name: string,
    options: {
      pods?: readonly string[]
      services?: readonly string[]
      replaces?: TestCluster
      days?: number
    } = {}
  ): TestInvite {
    const seed = this.crypto.random(32)
    const draft: Draft = {
      kind: 'invite',
      under: seat.id,
      inviteKey: this.keyOf(seed),
      cluster: clusterName(name),
      pods: ranges(options.pods ?? []),
      services: ranges(options.services ?? []),
      namespaces: [],
      notBefore: this.#now,
      notAfter: this.#now + (options.days ?? 7) * 86_400,
      replaces: options.replaces?.key
    }
    return { ...this.sign(draft, { issuer: seat.seed }, seat.envelopes), seed, name }
  }

  /** The newcomer's certificate, under a key of its own or the given one. */
  redeem(
    invite: TestInvite,
    seed = this.crypto.random(32),
    name = invite.name
  ): Thing & { seed: Uint8Array } {
    const draft: Draft = {
      kind: 'clusterCert',
      invite: invite.id,
      name: clusterName(name),
      clusterKey: this.keyOf(seed),
      pods: [],
      services: []
    }
    return { ...this.sign(draft, { issuer: invite.seed, accepting: seed }, invite.envelopes), seed }
  }

  admit(
    invite: TestInvite,
    sponsor: TestCluster,
    seen: number,
    options: { readonly seed?: Uint8Array; readonly name?: string } = {}
  ): TestCluster {
    const { envelopes, seed } = this.redeem(invite, options.seed, options.name)
    const key = this.keyOf(seed)
    const draft: Draft = {
      kind: 'admission',
      invite: invite.id,
      clusterKey: key,
      sponsorKey: sponsor.key,
      seen,
      time: this.#now
    }
    return { ...this.sign(draft, { issuer: sponsor.seed }, envelopes), seed, key }
  }

  /** Invites and admits. */
  join(
    seat: TestSeat,
    sponsor: TestCluster,
    seen: number,
    name: string,
    options: Parameters<World['invite']>[2] = {}
  ): TestCluster {
    return this.admit(this.invite(seat, name, options), sponsor, seen)
  }

  void(by: TestSeat | 'roots', target: Thing | StatementId, keep: readonly Thing[] = []): Thing {
    const draft: Draft = {
      kind: 'void',
      under: by === 'roots' ? undefined : by.id,
      target: typeof target === 'string' ? target : target.id,
      keep: new Set(keep.map(({ id }) => shortOf(id)))
    }
    return by === 'roots' ? this.byRoots(draft) : this.sign(draft, { issuer: by.seed }, by.envelopes)
  }

  bar(
    by: { readonly seat: TestSeat } | { readonly cluster: TestCluster },
    target: TestCluster | { readonly agent: KeyId },
    keepOnly?: readonly Thing[]
  ): Thing {
    const signer = 'seat' in by ? by.seat : by.cluster
    return this.sign(
      {
        kind: 'bar',
        by: 'seat' in by ? { seat: by.seat.id } : { cluster: by.cluster.key },
        target: 'agent' in target ? target : { cluster: target.key },
        keepOnly: keepOnly && new Set(keepOnly.map(({ id }) => shortOf(id)))
      },
      { issuer: signer.seed },
      signer.envelopes
    )
  }

  decide(by: TestSeat, name: string, cluster: TestCluster): Thing {
    const draft: Draft = { kind: 'decide', under: by.id, name: clusterName(name), clusterKey: cluster.key }
    return this.sign(draft, { issuer: by.seed }, by.envelopes)
  }

  grant(
    by: TestSeat,
    cluster: TestCluster,
    change: {
      readonly pods?: readonly string[]
      readonly services?: readonly string[]
      readonly drop?: readonly string[]
    }
  ): Thing {
    const draft: Draft = {
      kind: 'grant',
      under: by.id,
      clusterKey: cluster.key,
      add: { pods: ranges(change.pods ?? []), services: ranges(change.services ?? []) },
      drop: ranges(change.drop ?? [])
    }
    return this.sign(draft, { issuer: by.seed }, by.envelopes)
  }

  agent(cluster: TestCluster, generation: number, seed = this.crypto.random(32)): Thing & { key: KeyId } {
    const draft: Draft = {
      kind: 'agentCert',
      clusterKey: cluster.key,
      agentKey: this.keyOf(seed),
      node: 'gw-1',
      roles: ['gateway'],
      generation
    }
    const thing = this.sign(draft, { issuer: cluster.seed, accepting: seed }, cluster.envelopes)
    return { ...thing, key: this.keyOf(seed) }
  }

  keyOf(seed: Uint8Array): KeyId {
    return keyId(this.crypto.publicKeyOf(seed))
  }

  #next(): Uint8Array {
    this.#count++
    return new TextEncoder().encode(`test ${this.#count}`)
  }
}

/** Adds each thing, which must be taken. */
export function addAll(set: TrustSet, things: readonly Thing[]): TrustSet {
  for (const { item } of things) {
    const added = set.add(item)
    assert.ok(added.kind === 'added', JSON.stringify(added))
  }
  return set
}

/** What a member of the mesh sees: evaluated from scratch. */
export function look(set: TrustSet, options: { readonly rules?: Rules; readonly owners?: Owners } = {}) {
  const { standing: rules } = options.rules ?? RULES
  const standing = evaluateTrust(set, rules)
  const claims = claimsOf(standing, rules)
  const ownership = ownershipOf(claims, options.owners ?? new Map(), rules)
  return {
    standing,
    claims,
    ownership,
    owners: ownership.owners,
    stands: ({ key }: TestCluster) => standing.clusters.get(key)?.verdict.stands === true,
    owner: (name: string) => ownership.names.get(clusterName(name)),
    pods: ({ key }: TestCluster) => ownership.prefixes.get(key)?.pods ?? [],
    services: ({ key }: TestCluster) => ownership.prefixes.get(key)?.services ?? []
  }
}

/** The standing of agents, by agent key. */
export function lookAtAgents(
  set: TrustSet,
  agents: readonly Thing[],
  options: { readonly rules?: Rules; readonly generations?: ReadonlyMap<KeyId, number> } = {}
): ReadonlyMap<KeyId, AgentStanding> {
  const { standing: rules } = options.rules ?? RULES
  const certs = agents.flatMap(({ item }) => {
    const opened = set.open(item)
    assert.ok(opened.kind === 'item', JSON.stringify(opened))
    const last = opened.statements.at(-1)?.statement
    return last?.kind === 'agentCert' ? [last] : []
  })
  const judge = agentJudge(evaluateTrust(set, rules), rules)
  const highest = (key: KeyId) =>
    Math.max(
      options.generations?.get(key) ?? 0,
      ...certs.filter(({ clusterKey }) => clusterKey === key).map(({ generation }) => generation)
    )
  return new Map(certs.map((cert) => [cert.agentKey, judge(cert, highest(cert.clusterKey))]))
}
