// Which flows are ended when the translation of the pods' addresses changes, against a table of flows in memory.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { cidrContains } from '../../../../src/core/model/cidr.ts'
import type { Cidr, Ip } from '../../../../src/core/model/values.ts'
import { HostError } from '../../../../src/io/host/errors.ts'
import { createTranslatedFlows } from '../../../../src/io/host/filter/translated-flows.ts'
import type { Run } from '../../../../src/io/host/ports.ts'

const { signal } = new AbortController()
const REAL = '10.1.0.0/16' as Cidr
const remoteSources = ['10.129.0.0/16' as Cidr]

interface Row {
  readonly source: string
  readonly to: string
  readonly ip: string
  readonly replyTo: string
}

/** The tool conntrack over a list of flows. `fails`: how many calls fail before one succeeds. */
function tool(table: Row[], fails = 0): { readonly run: Run; readonly calls: string[] } {
  const calls: string[] = []
  const run: Run = async (_tool, args) => {
    calls.push(args.join(' '))
    if (fails-- > 0) throw new HostError({ code: 'TOOL_FAILED', message: 'conntrack failed', fix: '' })
    const value = (name: string) => args[args.indexOf(name) + 1] ?? ''
    const fits = (row: Row) =>
      (!args.includes('--orig-src') || within(value('--orig-src'), row.source)) &&
      (!args.includes('--orig-dst') || within(value('--orig-dst'), row.to)) &&
      (!args.includes('--reply-dst') || value('--reply-dst') === row.replyTo)
    const found = table.filter(fits)
    if (args[0] === '-D') for (const row of found) table.splice(table.indexOf(row), 1)
    const stdout = args[0] === '-L' ? found.map(lineOf).join('\n') : ''
    return { stdout, stderr: '', exitCode: found.length > 0 ? 0 : 1 }
  }
  return { run, calls }
}

const within = (prefix: string, ip: string): boolean =>
  prefix.includes('/') ? cidrContains(prefix as Cidr, ip as Ip) : prefix === ip
const lineOf = ({ source, to, ip, replyTo }: Row): string =>
  `udp      17 119 src=${source} dst=${to} sport=4000 dport=7947 src=${ip} dst=${replyTo} sport=7947 dport=4000 [ASSURED] mark=0 use=1`

const last = fc.integer({ min: 1, max: 250 })
const row: fc.Arbitrary<Row> = fc.record({
  source: last.map((n) => `10.1.0.${n}`),
  to: last.map((n) => `10.193.0.${n}`),
  ip: fc.tuple(fc.constantFrom('10.129', '10.1', '192.0'), last).map(([net, n]) => `${net}.0.${n}`),
  replyTo: fc
    .tuple(fc.constantFrom('10.128', '10.140', '10.1', '203.0'), last)
    .map(([net, n]) => `${net}.0.${n}`)
})
const second = (replyTo: string, source: string) => replyTo.split('.').at(-1) === source.split('.').at(-1)
/** Whether the filter with this virtual network translates the flow so. */
const isRight = ({ source, ip, replyTo }: Row, net: string): boolean =>
  !ip.startsWith('10.129.') || (replyTo.startsWith(net) && second(replyTo, source))

describe('flows of a cluster whose addresses are translated', () => {
  it('those that are translated otherwise than the filter says are ended, and no others, also after a failure', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(row, { maxLength: 60 }),
        fc.constantFrom('10.128', '10.140', ''),
        fc.constantFrom('10.128', '10.140', ''),
        fc.nat(2),
        async (rows, before, after, fails) => {
          const filter = (net: string) => ({
            remoteSources,
            ...(net && { translatedPods: [`${REAL} ${net}.0.0/16` as const] })
          })
          const table = [...rows]
          const { run } = tool(table)
          const flows = createTranslatedFlows(run)
          flows.known(filter(before))
          await flows.retry(signal)
          const net = before === '' ? '10.1.' : before
          assert.deepEqual(table, before === '' ? rows : rows.filter((each) => isRight(each, net)))
          const again = [...table]
          const broken = tool(again, fails)
          const later = createTranslatedFlows(broken.run)
          later.known(filter(before))
          await later.changed(filter(after), signal)
          for (let tries = 0; tries <= fails; tries++) await later.retry(signal)
          const isChanged = before !== after
          assert.deepEqual(
            again,
            isChanged ? table.filter((each) => isRight(each, after === '' ? '10.1.' : after)) : table
          )
        }
      ),
      { numRuns: 200 }
    )
  })

  it('nothing is read while nothing is translated, and each change is read once', async () => {
    const { run, calls } = tool([])
    const flows = createTranslatedFlows(run)
    flows.known({ remoteSources })
    await flows.changed({ remoteSources }, signal)
    await flows.retry(signal)
    assert.deepEqual(calls, [])
    await flows.changed({ remoteSources, translatedPods: [`${REAL} 10.128.0.0/16`] }, signal)
    await flows.retry(signal)
    assert.deepEqual(calls, [`-L -f ipv4 --orig-src ${REAL}`])
  })
})
