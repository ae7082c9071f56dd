// The pairs of the table in docs/paths.md that nat-grid.test.ts leaves out, with a relay.
import { natWorld } from './nat-cells.ts'

describe('two sites behind NAT, all other kinds', function () {
  natWorld('nat-more', '--relay-rate', '10').test([
    ['ipv6', 'ipv6', 'direct'],
    ['forwarded', 'symmetric', 'direct'],
    ['double', 'double', 'direct'],
    ['double', 'independent', 'direct'],
    ['forwarded', 'independent', 'direct'],
    ['symmetric', 'symmetric', 'relay:edge'],
    ['double', 'symmetric', 'relay:edge'],
    ['ipv6', 'independent', 'relay:edge'],
    ['ipv6', 'symmetric', 'relay:edge'],
    ['ipv6', 'double', 'relay:edge'],
    ['ipv6', 'forwarded', 'relay:edge'],
    // Last: after so many failures UDP is tried every 300 s at most, also towards the open member.
    ['independent', 'noUdp', 'relay:edge'],
    ['forwarded', 'noUdp', 'relay:edge'],
    ['symmetric', 'noUdp', 'relay:edge'],
    ['noUdp', 'noUdp', 'relay:edge'],
    ['ipv6', 'noUdp', 'relay:edge']
  ])
})
