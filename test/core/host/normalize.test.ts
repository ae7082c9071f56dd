import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { bytesToIp } from '../../../src/core/model/cidr.ts'
import type { VirtualServer } from '../../../src/core/host/host-state.ts'
import {
  compareRealServers,
  compareVirtualServers,
  normalizeVirtualServer,
  virtualServerOrder
} from '../../../src/core/host/normalize.ts'

const ips = fc
  .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .map((bytes) => bytesToIp(bytes) ?? assert.fail())
const ports = fc.integer({ min: 1, max: 65_535 })
const servers: fc.Arbitrary<VirtualServer> = fc
  .tuple(ips, ports, fc.constantFrom('TCP', 'UDP', 'SCTP'), fc.array(fc.tuple(ips, ports), { maxLength: 4 }))
  .map(([vip, port, protocol, reals]) => ({
    vip,
    port,
    protocol,
    scheduler: 'rr',
    affinitySeconds: 0,
    realServers: reals.map(([ip, realPort]) => ({ ip, port: realPort, weight: 1 }))
  }))

describe('the order of virtual servers', () => {
  it('is one, whether by key or by comparison', () => {
    fc.assert(
      fc.property(servers, servers, (left, right) => {
        const [a, b] = [virtualServerOrder(left), virtualServerOrder(right)]
        assert.equal(Math.sign(compareVirtualServers(left, right)), a === b ? 0 : a < b ? -1 : 1)
      })
    )
  })

  it('is one for real servers, too', () => {
    fc.assert(
      fc.property(servers, (server) => {
        const { realServers } = normalizeVirtualServer(server)
        assert.deepEqual(realServers, realServers.toSorted(compareRealServers))
      })
    )
  })
})
