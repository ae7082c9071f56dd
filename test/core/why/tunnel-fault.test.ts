import assert from 'node:assert/strict'
import { tunnelFault } from '../../../src/core/why/tunnel-fault.ts'

describe('the fault of a tunnel', () => {
  const faults = [
    { code: 'PATH_MTU', subject: 'east east-1' },
    { code: 'CLUSTER_DOWN', subject: 'west' },
    { code: 'CLUSTER_DOWN', subject: 'east' },
    { code: 'GATEWAY_DOWN', subject: 'east east-1' },
    { code: 'GATEWAY_DOWN', subject: 'north east' }
  ]

  it('is that of the gateway before that of its cluster, and none of another cluster', () => {
    assert.equal(tunnelFault(faults, { cluster: 'east', node: 'east-1' })?.code, 'GATEWAY_DOWN')
    assert.equal(tunnelFault(faults, { cluster: 'east', node: 'east-2' })?.code, 'CLUSTER_DOWN')
    assert.equal(tunnelFault(faults, { cluster: 'north', node: 'n' }), undefined)
    assert.equal(
      tunnelFault([{ code: 'PATH_MTU', subject: 'east' }], { cluster: 'east', node: '' }),
      undefined
    )
  })
})
