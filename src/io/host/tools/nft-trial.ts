// Tries whether nftables in this kernel can make a type of chain, because some kernels have the module of nftables
// without any family. The load balancer and the packet filter are chosen by the result.
import { randomBytes } from 'node:crypto'
import type { Run } from '../ports.ts'
import { succeeds } from './succeeds.ts'

/**
 * Returns whether the kernel accepts a table with such a chain. With `nft -c` it checks the table and does not make it.
 * Errors: HostError if nft gives no answer (TOOL_TIMEOUT, NOT_ROOT).
 */
export function canMakeChain(run: Run, type: 'filter' | 'nat', hook: string): Promise<boolean> {
  return accepts(run, `type ${type} hook ${hook} priority -110;`)
}

/** Returns whether rules can look up routes (`fib`, the kernel's module nft_fib_inet). Errors as of canMakeChain. */
export function canLookUpRoutes(run: Run): Promise<boolean> {
  return accepts(run, 'type filter hook prerouting priority -110; fib saddr . iif oif missing drop;')
}

function accepts(run: Run, chain: string): Promise<boolean> {
  const name = `rhizome-trial-${randomBytes(4).toString('hex')}`
  return succeeds(run, 'nft', ['-c', '-f', '-'], `table inet ${name} { chain c { ${chain} }; }\n`)
}
