// How a cluster gets its translation: at init, at join, by the Secret of its gateways, and by a Grant.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  askedByToken,
  askedInit,
  askedReal,
  refuseForGateway
} from '../../../src/app/enrolment/real-prefixes.ts'
import {
  createIdentity,
  initMesh,
  pendingMembership,
  redeemToken
} from '../../../src/app/identity/identity.ts'
import { invite } from '../../../src/app/identity/invite.ts'
import { sharedOf, withShared } from '../../../src/app/identity/shared-identity.ts'
import { AppError } from '../../../src/app/observe/errors.ts'
import type { FoundPrefixes } from '../../../src/app/sources/source.ts'
import { bytes } from '../../../src/app/identity/encoding.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { constantCidrs } from '../../../src/core/model/cidr.ts'
import { checkPrefixes } from '../../../src/core/model/prefixes.ts'
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

/** An invite of east by west, which is translated itself. */
function inviting(request: Partial<Parameters<typeof invite>[0]>) {
  const west = founder()
  const at = `/ip4/192.0.2.1/tcp/7946/p2p/${originOf(crypto.publicKeyOf(bytes(west.nodeSeed)))}`
  return invite(
    { cluster: 'east', ...NOTHING, ttlSeconds: 3600, bootstrap: [], ...request },
    {
      crypto,
      identity: west,
      nowMs,
      view: { self: 'west' as ClusterName, clusters: new Map() },
      bootstrap: new Map([['west' as ClusterName, [at]]]),
      seats: seatsOf(west, crypto),
      hostNetworks: [],
      alsoHeld: ['10.128.0.0/16', '10.192.0.0/12'].map((prefix) => ({
        prefix: prefix as Cidr,
        owner: 'cluster west'
      }))
    }
  )
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
    const { token, podPrefixes } = inviting({ realPodCidrs: [POD], realServiceCidrs: [SERVICE] })
    assert.deepEqual(podPrefixes, ['10.129.0.0/16'])
    const identity = createIdentity(crypto)
    const others = constantCidrs('10.7.0.0/16', '10.80.0.0/12') as [Cidr, Cidr]
    const first = redeemToken(token, {
      crypto,
      identity,
      nowMs,
      real: { podPrefixes: [others[0]], servicePrefixes: [others[1]] }
    })
    assert.deepEqual(pendingMembership(first, crypto).translation.pods, [
      { real: others[0], virtual: '10.129.0.0/16' }
    ])
    const second = redeemToken(token, { crypto, identity: first, nowMs, real })
    assert.equal(second.clusterSeed, first.clusterSeed)
    assert.deepEqual(pendingMembership(second, crypto).translation.pods, [
      { real: POD, virtual: '10.129.0.0/16' }
    ])
  })

  it('a join that forgets real prefixes of the token is refused with the flags; an installer takes those of the token', () => {
    const { token } = inviting({ realPodCidrs: [POD], realServiceCidrs: [SERVICE] })
    const options = { crypto, identity: createIdentity(crypto), nowMs }
    const flags = `--real-pod-cidr ${POD} --real-service-cidr ${SERVICE}`
    for (const forgetful of [undefined, { ...real, servicePrefixes: [] }, { ...real, podPrefixes: [] }])
      assert.throws(
        () => redeemToken(token, { ...options, real: forgetful }),
        (error) => {
          assert.ok(error instanceof AppError)
          assert.equal(error.code, 'TRANSLATION_MISMATCH')
          assert.ok(error.fix?.includes(flags), error.fix)
          return true
        }
      )
    assert.deepEqual(askedByToken(token, crypto), { realPodCidrs: [POD], realServiceCidrs: [SERVICE] })
    const pods = inviting({ realPodCidrs: [POD] }).token
    assert.deepEqual(askedByToken(pods, crypto), { realPodCidrs: [POD] })
    redeemToken(pods, { ...options, real: { ...real, servicePrefixes: [] } })
    const plain = inviting({}).token
    for (const text of [plain, 'rzg2_AAAA', '']) assert.deepEqual(askedByToken(text, crypto), {})
    redeemToken(plain, options)
  })

  it('an invite is refused exactly where the join with its flags would be', () => {
    const cidrs = constantCidrs(
      '10.1.0.0/16',
      '10.2.0.0/16',
      '10.1.0.0/17',
      '10.140.0.0/16',
      '127.0.0.0/16',
      'fd00:1::/48'
    )
    const list = fc.uniqueArray(fc.constantFrom(...cidrs), { maxLength: 2 })
    fc.assert(
      fc.property(list, list, list, list, (pods, services, realPods, realServices) => {
        const flags = { realPodCidrs: realPods, realServiceCidrs: realServices }
        const asked = { podPrefixes: realPods, servicePrefixes: realServices }
        let made: ReturnType<typeof inviting>
        try {
          made = inviting({ podCidrs: pods, serviceCidrs: services, ...flags })
        } catch (error) {
          assert.ok(error instanceof AppError)
          // What the invite refuses, init refuses with the same flags.
          assert.throws(() =>
            initMesh(
              { cluster: 'west', podCidrs: pods, serviceCidrs: services },
              { crypto, identity: createIdentity(crypto), nowMs, hostNetworks: [], real: asked }
            )
          )
          return
        }
        const named = realPods.length + realServices.length > 0 ? asked : undefined
        const joined = redeemToken(made.token, {
          crypto,
          identity: createIdentity(crypto),
          nowMs,
          real: named
        })
        const membership = pendingMembership(joined, crypto)
        // What its own hosts know is disjoint.
        assert.equal(checkPrefixes(realPrefixes(membership, membership.translation)), undefined)
      }),
      { numRuns: 60 }
    )
  })

  it('init refuses a virtual prefix that contains an address of this host', () => {
    const options = { crypto, identity: createIdentity(crypto), nowMs, real }
    const host = { hostNetworks: constantCidrs('203.0.113.11/32') }
    const request = { cluster: 'west', podCidrs: ['203.0.0.0/16'], serviceCidrs: ['10.192.0.0/12'] }
    assert.throws(() => initMesh(request, { ...options, ...host }), {
      code: 'PREFIX_HIDES',
      message: /203\.0\.0\.0\/16 .*203\.0\.113\.11, an address of this host/
    })
    // A flat network, in which the gateway has the address of a pod.
    const flat = { ...real, podPrefixes: constantCidrs('203.0.0.0/16') }
    initMesh({ cluster: 'west', ...NOTHING }, { ...options, ...host, real: flat })
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
