import assert from 'node:assert/strict'
import { underlayFault } from '../../../src/app/session/underlay.ts'
import { NO_SURROUNDINGS } from '../../../src/core/host/surroundings.ts'
import type { ClusterName, Ip } from '../../../src/core/model/values.ts'
import type { Invite } from '../../../src/core/trust/set/statement.ts'
import { ranges } from '../../core/trust/set/world.ts'

const around = {
  surroundings: { ...NO_SURROUNDINGS, gateways: ['198.51.100.1' as Ip] },
  outers: [{ ip: '203.0.113.11' as Ip, cluster: 'west' as ClusterName, node: 'west-gw' }]
}

function fault(cluster: string, pods: string, services = '10.107.0.0/16'): string | undefined {
  const invite = { cluster: cluster as ClusterName, pods: ranges([pods]), services: ranges([services]) }
  return underlayFault(invite as unknown as Invite, around)
}

describe('the check of an invite against the networks of hosts', () => {
  it('names the prefix and the address that it would hide', () => {
    assert.match(
      fault('n7', '203.0.113.0/24') ?? '',
      /^prefix 203\.0\.113\.0\/24 would hide 203\.0\.113\.11, .*west-gw/
    )
    assert.match(fault('n7', '10.7.0.0/16', '198.51.100.0/24') ?? '', /198\.51\.100\.1, the default gateway/)
  })

  it('lets free prefixes pass, and those in which the cluster has its own gateways', () => {
    assert.equal(fault('n7', '10.7.0.0/16'), undefined)
    assert.equal(fault('west', '203.0.113.0/24'), undefined)
  })
})
