// Issues this agent's certificate with the cluster's key, and renews it. A certificate is valid for seven days
// (core/trust/issue.ts) and is renewed every day, so a renewal may fail for six days before peers refuse new
// connections.
import type { Crypto } from '../../core/model/crypto.ts'
import { issueAgentCertificate } from '../../core/trust/issue.ts'
import type { Health } from '../observe/health.ts'
import { Loop } from '../../io/timing/loop.ts'

const RENEW_INTERVAL_MS = 86_400_000

/** The keys and the name that go into the certificate. */
interface CertificateInput {
  readonly crypto: Crypto
  /** Ed25519 seed of the cluster's key, 32 bytes: the issuer. */
  readonly clusterSeed: Uint8Array
  /** Encoded Chain down to the CLUSTER certificate. */
  readonly clusterChain: Uint8Array
  /** Ed25519 seed of this agent's key, 32 bytes: the subject, which signs the certificate, too. */
  readonly nodeSeed: Uint8Array
  /** Name of this host, from the setting node-name. */
  readonly node: string
}

/**
 * Returns the encoded Chain down to the agent's certificate, valid from now on. Throws an Error without a code when
 * the chain does not verify: then this program or the stored identity is wrong.
 */
export function ownCertificate(input: CertificateInput): Uint8Array {
  return issueAgentCertificate({
    crypto: input.crypto,
    clusterSeed: input.clusterSeed,
    chain: input.clusterChain,
    agentSeed: input.nodeSeed,
    node: input.node,
    roles: ['gateway'],
    nowSeconds: Math.floor(Date.now() / 1000)
  }).bytes
}

/**
 * Returns a loop that calls `renew` once a day; the first time is a day after its start. When `renew` throws, the
 * fault CERTIFICATE_NOT_RENEWED is set until a later renewal succeeds.
 */
export function renewalLoop(renew: () => void, health: Health): Loop {
  return new Loop({
    act: async () => {
      renew()
      health.clear('CERTIFICATE_NOT_RENEWED')
    },
    firstMs: RENEW_INTERVAL_MS,
    intervalMs: RENEW_INTERVAL_MS,
    onError: (error) =>
      health.setError('CERTIFICATE_NOT_RENEWED', error, {
        severity: 'error',
        fix: 'restart meshd within six days: seven days after the last renewal the certificate of this agent expires, and members refuse its new connections'
      })
  })
}
