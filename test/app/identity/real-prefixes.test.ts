// How a cluster gets its translation: at init, at join, by the Secret of its gateways, and by a Grant.
import assert from 'node:assert/strict'
import { askedInit, askedReal, refuseForGateway } from '../../../src/app/enrolment/real-prefixes.ts'
import {
  createIdentity,
  initMesh,
  pendingMembership,
  redeemToken
} from '../../../src/app/identity/identity.ts'
import { invite } from '../../../src/app/identity/invite.ts'
import { sharedOf, withShared } from '../../../src/app/identity/shared-identity.ts'
import type { FoundPrefixes } from '../../../src/app/sources/source.ts'
import { bytes } from '../../../src/app/identity/encoding.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { constantCidrs } from '../../../src/core/model/cidr.ts'
import { realPrefixes } from '../../../src/core/model/translation.ts'
import type { Cidr, ClusterName } from '../../../src/core/model/values.ts'
import { clusterSecretData, readClusterSecret } from '../../../src/core/trust/cluster-secret-data.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { decodeIdentity, encodeIdentity } from '../../../src/io/store/identity.ts'
import { cluster } from '../../core/dns/fixtures.ts'
import { seatsOf } from './seats.ts'

const crypto = createCrypto()
const nowMs = Date.now()
const [POD, SERVICE] = constantCidrs('10.1.0.0/16', '10.96.0.0/12') as [Cidr, Cidr]
const real = { podPrefixes: [POD], servicePrefixes: [SERVICE] }
const NOTHING = { podCidrs: [], serviceCidrs: [] }

function founder(request: Partial<Parameters<typeof initMesh>[0]> = {}) {
  const options = { crypto, identity: createIdentity(crypto), nowMs, hostNetworks: [], real }
  return initMesh({ cluster: 'west', ...NOTHING, ...request }, options)
}

describe('the real prefixes of a cluster', () => {
  it('init chooses prefixes of the same lengths, and translates', () => {
    const west = founder()
    const membership = pendingMembership(west, crypto)
    assert.deepEqual(membership.podPrefixes, ['10.128.0.0/16'])
    assert.deepEqual(membership.servicePrefixes, ['10.192.0.0/12'])
    assert.deepEqual(realPrefixes(membership, membership.translation), real)
    const read = decodeIdentity(encodeIdentity(west, 'identity.json'))
    assert.deepEqual(read.kind === 'ok' && read.identity, west)
  })

  it('without real prefixes, the identity and the Secret have no field of them', () => {
    const options = { crypto, identity: createIdentity(crypto), nowMs, hostNetworks: [] }
    const plain = initMesh({ cluster: 'west', ...NOTHING }, options)
    assert.ok(!('realPrefixes' in plain))
    assert.equal(pendingMembership(plain, crypto).translation.isActive, false)
    assert.ok(!('realPrefixes' in clusterSecretData(sharedOf(plain, crypto))))
  })

  it('refuses prefixes without a partner of the same family and length', () => {
    const wrong = { podCidrs: ['10.128.0.0/17'], serviceCidrs: ['10.192.0.0/12'] }
    assert.throws(() => founder(wrong), {
      code: 'TRANSLATION_MISMATCH',
      message: /10\.1\.0\.0\/16 .*10\.128\.0\.0\/17/
    })
    assert.throws(() => founder({ podCidrs: ['10.1.0.0/16'], serviceCidrs: ['10.100.0.0/12'] }))
    // Real pods and virtual services must not overlap.
    assert.throws(() => founder({ podCidrs: ['10.128.0.0/16'], serviceCidrs: ['10.0.0.0/12'] }), {
      code: 'BAD_ARGUMENT'
    })
  })

  it('a cluster joins with the real prefixes, and the same token again takes others', () => {
    const west = founder()
    const { token, podPrefixes } = invite(
      {
        cluster: 'east',
        ...NOTHING,
        realPodCidrs: [POD],
        realServiceCidrs: [SERVICE],
        ttlSeconds: 3600,
        bootstrap: []
      },
      {
        crypto,
        identity: west,
        nowMs,
        view: { self: 'west' as ClusterName, clusters: new Map() },
        bootstrap: new Map([
          [
            'west' as ClusterName,
            [`/ip4/192.0.2.1/tcp/7946/p2p/${originOf(crypto.publicKeyOf(bytes(west.nodeSeed)))}`]
          ]
        ]),
        seats: seatsOf(west, crypto),
        hostNetworks: [],
        alsoHeld: ['10.128.0.0/16', '10.192.0.0/12'].map((prefix) => ({
          prefix: prefix as Cidr,
          owner: 'cluster west'
        }))
      }
    )
    assert.deepEqual(podPrefixes, ['10.129.0.0/16'])
    const identity = createIdentity(crypto)
    const first = redeemToken(token, { crypto, identity, nowMs })
    assert.equal(pendingMembership(first, crypto).translation.isActive, false)
    const second = redeemToken(token, { crypto, identity: first, nowMs, real })
    assert.equal(second.clusterSeed, first.clusterSeed)
    assert.deepEqual(pendingMembership(second, crypto).translation.pods, [
      { real: POD, virtual: '10.129.0.0/16' }
    ])
  })

  it('one more gateway names none: they come with the key', () => {
    refuseForGateway({})
    refuseForGateway({ translate: false })
    for (const [asked, field] of [
      [{ realPodCidrs: [POD] }, 'real-pod-cidr'],
      [{ realServiceCidrs: [SERVICE] }, 'real-service-cidr'],
      [{ translate: true }, 'translate']
    ] as const)
      assert.throws(() => refuseForGateway(asked), { code: 'BAD_ARGUMENT', fix: `join without --${field}` })
  })

  it('an invite warns of a member that has the real prefixes of the new cluster in the mesh', () => {
    const options = { crypto, identity: createIdentity(crypto), nowMs, hostNetworks: [] }
    const west = initMesh({ cluster: 'west', podCidrs: [POD], serviceCidrs: [SERVICE] }, options)
    const at = `/ip4/192.0.2.1/tcp/7946/p2p/${originOf(crypto.publicKeyOf(bytes(west.nodeSeed)))}`
    const like = { realPodCidrs: [POD], realServiceCidrs: ['10.64.0.0/12'] }
    const { warnings, podPrefixes } = invite(
      { cluster: 'east', ...NOTHING, ...like, ttlSeconds: 3600, bootstrap: [] },
      {
        crypto,
        identity: west,
        nowMs,
        view: {
          self: 'west' as ClusterName,
          clusters: new Map([
            ['west' as ClusterName, cluster('west', { podPrefixes: [POD], servicePrefixes: [SERVICE] })]
          ])
        },
        bootstrap: new Map([['west' as ClusterName, [at]]]),
        seats: seatsOf(west, crypto),
        hostNetworks: []
      }
    )
    assert.deepEqual(podPrefixes, ['10.128.0.0/16'])
    assert.equal(warnings.length, 1)
    assert.match(warnings[0] ?? '', /cluster west has 10\.1\.0\.0\/16 in the mesh, .*real prefix of east/)
  })

  it('the other gateways of the cluster get them with the key', () => {
    const west = founder()
    const data = clusterSecretData(sharedOf(west, crypto))
    const reading = readClusterSecret(data, crypto)
    assert.ok(reading.kind === 'secret')
    const other = withShared(createIdentity(crypto), reading.secret, { crypto, nowMs })
    assert.deepEqual(other.realPrefixes, west.realPrefixes)
    assert.equal(readClusterSecret({ ...data, realPrefixes: btoa('pod x') }, crypto).kind, 'corrupt')
  })

  it('asks the Kubernetes API only with `translate`, and for what is not named', async () => {
    const found: FoundPrefixes = { ...real, isWholeCluster: true }
    const source = { discover: async () => found }
    const none = { discover: async () => assert.fail('the cluster was asked') }
    assert.equal(await askedReal({}, none), undefined)
    assert.deepEqual(await askedReal({ realPodCidrs: [POD] }, none), {
      podPrefixes: [POD],
      servicePrefixes: []
    })
    assert.deepEqual(await askedReal({ translate: true }, source), real)
    assert.deepEqual(await askedReal({ translate: true, realPodCidrs: ['10.2.0.0/16'] }, source), {
      podPrefixes: ['10.2.0.0/16'],
      servicePrefixes: [SERVICE]
    })
    const folder = { discover: async () => ({ podPrefixes: [], servicePrefixes: [], isWholeCluster: true }) }
    await assert.rejects(askedReal({ translate: true }, folder), { code: 'BAD_ARGUMENT' })
    const nodes = { discover: async () => ({ ...found, isWholeCluster: false }) }
    await assert.rejects(askedReal({ translate: true }, nodes), { message: /^real-pod-cidr: / })
    const { request } = await askedInit({ cluster: 'west', ...NOTHING, translate: true }, source)
    assert.deepEqual(request.podCidrs, [])
  })
})
