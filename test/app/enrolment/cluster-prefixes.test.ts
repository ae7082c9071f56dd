import assert from 'node:assert/strict'
import { checkCertified, refuseNodesOnly, uncertified } from '../../../src/app/enrolment/cluster-prefixes.ts'
import type { FoundPrefixes } from '../../../src/app/sources/source.ts'
import type { Cidr, ClusterName } from '../../../src/core/model/values.ts'

const found = (
  pods: readonly string[],
  services: readonly string[],
  isWholeCluster = true
): FoundPrefixes => ({
  podPrefixes: pods as Cidr[],
  servicePrefixes: services as Cidr[],
  isWholeCluster
})

const EAST = {
  cluster: 'east' as ClusterName,
  podPrefixes: ['10.128.0.0/16'] as Cidr[],
  servicePrefixes: ['10.192.0.0/16'] as Cidr[]
}

describe('the prefixes of a token beside those of the cluster', () => {
  it('a token with other prefixes than the cluster uses is refused with the invite that fits', () => {
    const cases: readonly (readonly [FoundPrefixes, string])[] = [
      [
        found(['10.244.0.0/16'], ['10.96.0.0/12']),
        'meshctl invite east --pod-cidr 10.244.0.0/16 --service-cidr 10.96.0.0/12'
      ],
      [
        found(['10.244.3.0/24', 'fd00:1:2:3::/64'], ['10.192.0.0/16'], false),
        'meshctl invite east --pod-cidr 10.244.0.0/16 --pod-cidr fd00:1:2::/56 --service-cidr 10.192.0.0/16'
      ],
      [
        found([], ['10.96.0.0/12']),
        'meshctl invite east --pod-cidr 10.128.0.0/16 --service-cidr 10.96.0.0/12'
      ]
    ]
    for (const [used, line] of cases) {
      assert.throws(
        () => checkCertified(EAST, used),
        (error: Error & { code?: string; fix?: string }) => {
          assert.equal(error.code, 'PREFIX_MISMATCH')
          assert.ok(error.fix?.startsWith(`ask for another token: ${line}; or, `), error.fix)
          assert.match(error.fix ?? '', /--real-service-cidr .*`meshctl join --translate`/)
          return true
        }
      )
    }
  })

  it('a token that has what the cluster uses is taken, and so is one for a cluster that does not tell', () => {
    for (const used of [
      found(['10.128.0.0/16'], ['10.192.0.0/16']),
      found(['10.128.4.0/24'], ['10.192.0.0/20'], false),
      found([], [])
    ]) {
      checkCertified(EAST, used)
      assert.deepEqual(uncertified(EAST, used), [])
    }
  })

  it('a part that lies outside is named', () => {
    const used = found(['10.128.0.0/16', '10.244.0.0/16'], ['10.192.0.0/15'])
    checkCertified(EAST, used)
    assert.deepEqual(uncertified(EAST, used), ['10.244.0.0/16', '10.192.0.0/15'])
  })

  it('init asks for the prefix of the whole cluster where only those of today\u2019s Nodes are known', () => {
    refuseNodesOnly(found(['10.1.0.0/16'], []))
    refuseNodesOnly(found([], []))
    assert.throws(() => refuseNodesOnly(found(['10.1.3.0/24', '10.1.4.0/24'], [], false)), {
      code: 'BAD_ARGUMENT',
      message: /^pod-cidr: .*10\.1\.3\.0\/24, 10\.1\.4\.0\/24/,
      fix: /--pod-cidr 10\.1\.0\.0\/16, for example$/
    })
  })
})
