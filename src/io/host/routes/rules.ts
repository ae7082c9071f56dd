// The routing rules of this agent (ip-rule(8)). Each leads to one table of ours.
//   tunnel   All packets but those of WireGuard itself, which carry our mark.
//   inner    Packets that came out of the tunnel, and UDP packets of this host from or to the port of the probe. So the
//            routes between the nodes of this cluster take no packet that the network plugin carries.
// Invariant: a rule is ours if it has our preference, table and protocol number. No other rule is read as ours or removed.
import type { HostNames, Run } from '../ports.ts'
import type { Rule } from '../tools/ip-json.ts'
import { readRules } from '../tools/ip.ts'

type Family = 4 | 6

/** A table of ours that rules lead to. */
type RuledTable = 'tunnel' | 'inner'

/** Reads and changes our rules of each family. Errors: HostError. */
interface Rules {
  /** Returns whether all rules that lead to the table exist. */
  has(table: RuledTable, family: Family, signal: AbortSignal): Promise<boolean>
  /** Adds the rules that are missing, and removes those of an earlier run with another port or device. */
  ensure(table: RuledTable, family: Family, signal: AbortSignal): Promise<void>
  /** Removes all our rules that lead to the table. */
  remove(table: RuledTable, family: Family, signal: AbortSignal): Promise<void>
}

/** What a rule selects, as arguments of `ip rule`. Two rules of ours are equal if these texts are. */
type Selector = string

/** Returns the rules of this host. Runs no tool. */
export function createRules(run: Run, names: HostNames): Rules {
  /** The selectors of our rules for a table. */
  async function read(table: RuledTable, family: Family, signal: AbortSignal): Promise<readonly Selector[]> {
    const { preference, number } = placeOf(table, names)
    return (await readRules(run, family, signal))
      .filter(
        (rule) =>
          rule.preference === preference &&
          rule.table === String(number) &&
          rule.protocol === String(names.routeProtocol)
      )
      .map(selectorOf)
  }

  async function change(
    verb: 'add' | 'delete',
    { table, family, selector }: { table: RuledTable; family: Family; selector: Selector },
    signal: AbortSignal
  ): Promise<void> {
    const { preference, number } = placeOf(table, names)
    const text = `preference ${preference} ${selector} lookup ${number} protocol ${names.routeProtocol}`
    await run('ip', [`-${family}`, 'rule', verb, ...text.split(' ')], { signal })
  }

  return {
    async has(table, family, signal) {
      const found = new Set(await read(table, family, signal))
      return selectorsOf(table, names).every((selector) => found.has(selector))
    },

    async ensure(table, family, signal) {
      const wanted = selectorsOf(table, names)
      const found = await read(table, family, signal)
      for (const selector of wanted)
        if (!found.includes(selector)) await change('add', { table, family, selector }, signal)
      for (const selector of found)
        if (!wanted.includes(selector)) await change('delete', { table, family, selector }, signal)
    },

    async remove(table, family, signal) {
      for (const selector of await read(table, family, signal))
        await change('delete', { table, family, selector }, signal)
    }
  }
}

function placeOf(table: RuledTable, names: HostNames): { preference: number; number: number } {
  return table === 'inner'
    ? { preference: names.innerPreference, number: names.innerTable }
    : { preference: names.rulePreference, number: names.routeTable }
}

/** Returns the selectors of the rules that a table needs. */
function selectorsOf(table: RuledTable, names: HostNames): readonly Selector[] {
  if (table === 'tunnel') return [`not fwmark ${mark(names.fwmark)}`]
  const probes = ['dport', 'sport'].map((side) => `iif lo ipproto udp ${side} ${names.probePort}`)
  return [`iif ${names.device}`, ...(names.probePort === 0 ? [] : probes)]
}

/** Returns the selector of a rule in the order of `selectorsOf`. */
function selectorOf(rule: Rule): Selector {
  const { not, fwmark, fwmask, iif, udp, sport, dport } = rule
  return [
    ...(not ? ['not'] : []),
    ...(fwmark === 0 && fwmask === 0 ? [] : [`fwmark ${hex(fwmark)}/${hex(fwmask)}`]),
    ...(iif === undefined ? [] : [`iif ${iif}`]),
    ...(udp ? ['ipproto udp'] : []),
    ...(dport === undefined ? [] : [`dport ${dport}`]),
    ...(sport === undefined ? [] : [`sport ${sport}`])
  ].join(' ')
}

function mark(value: number): string {
  return `${hex(value)}/${hex(value)}`
}

function hex(value: number): string {
  return `0x${value.toString(16)}`
}
