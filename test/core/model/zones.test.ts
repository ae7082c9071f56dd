import assert from 'node:assert/strict'
import { parseClusterName } from '../../../src/core/model/identity.ts'
import {
  clusterZone,
  isClusterZone,
  isServiceZone,
  KUBERNETES_DOMAIN,
  MERGED_ZONES,
  RESERVED_CLUSTER_NAMES,
  REVERSE_DOMAINS
} from '../../../src/core/model/zones.ts'

describe('the list of zones', () => {
  it('has merged zones of two labels, since the name function finds a zone by the last two', () => {
    for (const zone of MERGED_ZONES) assert.match(zone, /^[a-z0-9-]+\.[a-z0-9-]+$/)
  })

  it('reserves the names whose zone has another meaning, and no cluster gets one of them', () => {
    assert.deepEqual([...RESERVED_CLUSTER_NAMES].sort(), ['all', 'local'])
    for (const name of RESERVED_CLUSTER_NAMES) assert.equal(parseClusterName(name).kind, 'invalid')
  })

  it('tells zones of services from the rest', () => {
    for (const zone of [clusterZone('east'), ...MERGED_ZONES]) assert.ok(isServiceZone(zone), zone)
    for (const zone of [KUBERNETES_DOMAIN, `2.10.${REVERSE_DOMAINS.IPv4}`, 'cluster', 'example.com'])
      assert.ok(!isServiceZone(zone) && !isClusterZone(zone), zone)
  })
})
