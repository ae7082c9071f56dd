// Whether nftables has a type of chain in this kernel: some kernels have its module without any family.
import { randomBytes } from 'node:crypto'
import type { Run } from '../ports.ts'
import { succeeds } from './succeeds.ts'

/** The kernel checks a table with such a chain (`nft -c`) and does not make it. Errors: HostError where nft gives no answer. */
export function canMakeChain(run: Run, type: 'filter' | 'nat', hook: string): Promise<boolean> {
  const name = `rhizome-trial-${randomBytes(4).toString('hex')}`
  const table = `table inet ${name} { chain c { type ${type} hook ${hook} priority -110; }; }`
  return succeeds(run, 'nft', ['-c', '-f', '-'], `${table}\n`)
}
