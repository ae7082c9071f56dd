// This agent's certificate: issued with the cluster's key, and renewed once a day, a seventh of its life.
import type { Crypto } from '../../core/model/crypto.ts'
import { issueAgentCertificate } from '../../core/trust/issue.ts'
import type { Health } from '../observe/health.ts'
import { Loop } from '../observe/loop.ts'

const RENEW_INTERVAL_MS = 86_400_000

export interface CertificateInput {
  readonly crypto: Crypto
  readonly clusterSeed: Uint8Array
  /** Encoded Chain down to the CLUSTER certificate. */
  readonly clusterChain: Uint8Array
  readonly nodeSeed: Uint8Array
  readonly node: string
}

/** The encoded Chain down to the agent's certificate, valid from now on. */
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

/** `renew` issues the next certificate. One that cannot be issued is the fault CERTIFICATE_NOT_RENEWED. */
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
        fix: 'restart meshd within a week: the present certificate of this agent lives that long at most'
      })
  })
}
