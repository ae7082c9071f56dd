// A small mesh with real keys for the trust tests.
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { parseCidr } from '../../../src/core/model/cidr.ts'
import type { Crypto } from '../../../src/core/model/crypto.ts'
import type { Cidr, ClusterName } from '../../../src/core/model/values.ts'
import { parseClusterName } from '../../../src/core/model/identity.ts'
import type { AgentChain, ClusterChain } from '../../../src/core/trust/chain.ts'
import { createInvite, createMesh, issueAgentCertificate, redeem } from '../../../src/core/trust/issue.ts'

export const crypto: Crypto = createCrypto()
/** 2026-11-23T00:00:00Z */
export const NOW = 1_795_392_000
export const HOUR = 3600
export const DAY = 86_400

export function cidr(text: string): Cidr {
  const parsed = parseCidr(text)
  if (parsed.kind === 'invalid') throw new Error(parsed.reason)
  return parsed.cidr
}

export function clusterName(text: string): ClusterName {
  const parsed = parseClusterName(text)
  if (parsed.kind === 'invalid') throw new Error(parsed.reason)
  return parsed.clusterName
}

export interface TestCluster {
  readonly clusterSeed: Uint8Array
  readonly chain: ClusterChain
}

export interface TestAgent {
  readonly seed: Uint8Array
  readonly chain: AgentChain
}

export interface TestMesh {
  readonly meshId: Uint8Array
  readonly rootSeed: Uint8Array
  readonly founder: TestCluster
}

export function makeMesh(cluster = 'west', pods = '10.1.0.0/16', services = '10.101.0.0/16'): TestMesh {
  const { meshId, rootSeed, clusterSeed, chain } = createMesh({
    crypto,
    cluster: clusterName(cluster),
    podPrefixes: [cidr(pods)],
    servicePrefixes: [cidr(services)],
    nowSeconds: NOW
  })
  return { meshId, rootSeed, founder: { clusterSeed, chain } }
}

export interface InviteTerms {
  readonly cluster: string
  readonly pods: readonly string[]
  readonly services?: readonly string[]
  readonly notBefore?: number
  readonly notAfter?: number
}

export function invite(mesh: TestMesh, terms: InviteTerms) {
  const notBefore = terms.notBefore ?? NOW
  return createInvite({
    crypto,
    rootSeed: mesh.rootSeed,
    cluster: clusterName(terms.cluster),
    podPrefixes: terms.pods.map(cidr),
    servicePrefixes: (terms.services ?? []).map(cidr),
    notBefore,
    notAfter: terms.notAfter ?? notBefore + DAY
  })
}

export function join(mesh: TestMesh, terms: InviteTerms): TestCluster {
  const { inviteSeed, chain } = invite(mesh, terms)
  return redeem({ crypto, invite: chain, inviteSeed, nowSeconds: terms.notBefore ?? NOW })
}

export function agentOf(
  cluster: TestCluster,
  node = 'gw-1',
  nowSeconds = NOW,
  seed = crypto.random(32)
): TestAgent {
  const chain = issueAgentCertificate({
    crypto,
    clusterSeed: cluster.clusterSeed,
    chain: cluster.chain.bytes,
    agentSeed: seed,
    node,
    roles: ['gateway', 'node'],
    nowSeconds
  })
  return { seed, chain }
}

export const EAST: InviteTerms = { cluster: 'east', pods: ['10.2.0.0/16'], services: ['10.102.0.0/16'] }

export function flipBit(bytes: Uint8Array, bit: number): Uint8Array {
  const flipped = bytes.slice()
  const at = bit >> 3
  flipped[at] = (flipped[at] ?? 0) ^ (1 << (bit & 7))
  return flipped
}
