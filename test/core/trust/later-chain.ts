// A cluster's certificate, made anew for the same key by who issued the one before: what a renewal gives.
import assert from 'node:assert/strict'
import type { Crypto } from '../../../src/core/model/crypto.ts'
import { sealCertificate } from '../../../src/core/trust/certificate.ts'
import { verifyChain, type ClusterChain } from '../../../src/core/trust/chain.ts'
import { decodeChain, encodeMessage, wire } from '../../../src/core/wire/messages.ts'

export function laterChain(
  crypto: Crypto,
  of: {
    /** Of the root, or of the invite. */
    readonly issuerSeed: Uint8Array
    readonly clusterSeed: Uint8Array
    readonly chain: ClusterChain
  },
  notBefore: number
): ClusterChain {
  const { meshId, cluster, podPrefixes, servicePrefixes, clusterValidity } = of.chain
  const certificate = sealCertificate({
    crypto,
    meshId,
    issuerSeed: of.issuerSeed,
    subjectSeed: of.clusterSeed,
    draft: {
      kind: 'cluster',
      cluster,
      podPrefixes,
      servicePrefixes,
      validity: { notBefore, notAfter: clusterValidity.notAfter }
    }
  })
  const before = decodeChain(of.chain.bytes) ?? assert.fail('the chain is not decodable')
  const bytes = encodeMessage<object>(wire.Chain, {
    rootKeys: before.rootKeys,
    certificates: [...before.certificates.slice(0, -1), certificate]
  })
  const chain = verifyChain(bytes, { crypto, meshId, upTo: 'CLUSTER' })
  if (chain.kind === 'refused') assert.fail(chain.reason)
  return chain
}
