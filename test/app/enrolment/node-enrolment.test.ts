// What an agent with the role node may do where a cluster's membership is made.
import assert from 'node:assert/strict'
import { sharedAddresses, tokenFor } from '../../../src/app/enrolment/node-enrolment.ts'

describe('an agent with the role node', () => {
  const addresses = ['/ip4/192.0.2.1/tcp/7946']

  it('tells later agents no address of its own, because it refuses all but its gateways', () => {
    assert.deepEqual(sharedAddresses({ role: 'node' }, addresses), [])
    assert.deepEqual(sharedAddresses({ role: 'gateway' }, addresses), addresses)
    assert.deepEqual(sharedAddresses({ role: 'auto' }, addresses), addresses)
  })

  it('uses no token, and waits for the key', () => {
    assert.equal(tokenFor({ role: 'node' }, 'rzm2_x'), undefined)
    assert.equal(tokenFor({ role: 'auto' }, 'rzm2_x'), 'rzm2_x')
  })
})
