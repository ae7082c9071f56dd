// This file reads the rules of another program's packet filter and tells what it does with a packet of the mesh. The
// logic is three-valued: a condition that is not understood may match or not, and only a certain result is reported.
// Invariant: the walk is bounded (RULES_MAX rules, JUMPS_MAX nested jumps). Beyond the bounds nothing is certain.
import { cidrContains, parseCidr, parseIp } from '../model/cidr.ts'
import type { Cidr, Ip } from '../model/values.ts'

/** One chain of nftables or iptables. */
export interface FirewallChain {
  /** "table ip filter (iptables)" */
  readonly table: string
  readonly family: 'ip' | 'ip6' | 'inet' | 'netdev'
  readonly name: string
  /** Present for a base chain only. */
  readonly base?: { readonly hook: string; readonly priority: number; readonly policy: 'accept' | 'drop' }
  readonly rules: readonly FirewallRule[]
}

/** One rule of a chain. */
export interface FirewallRule {
  readonly conditions: readonly Condition[]
  readonly verdict: Verdict
  /** The rule as its tool would print it, for messages. */
  readonly text: string
}

/** A condition of a rule. */
export type Condition =
  | { readonly kind: 'iif' | 'oif'; readonly names: readonly string[]; readonly not: boolean }
  | { readonly kind: 'saddr' | 'daddr'; readonly prefixes: readonly Cidr[]; readonly not: boolean }
  | { readonly kind: 'state'; readonly states: readonly string[]; readonly not: boolean }
  | { readonly kind: 'mark'; readonly value: number; readonly mask: number; readonly not: boolean }
  | { readonly kind: 'protocol'; readonly name: string; readonly not: boolean }
  | {
      readonly kind: 'dport'
      /** Left out: a condition of its own names the protocol. */
      readonly protocol?: string
      readonly from: number
      readonly to: number
      readonly not: boolean
    }
  | { readonly kind: 'unknown' }

/** What a rule does with a packet that meets its conditions. */
export type Verdict =
  | { readonly kind: 'accept' | 'drop' | 'return' | 'translate' | 'redirect' | 'untrack' | 'none' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string }

/** The first packet of a flow. A field that is undefined is not known. */
export interface FirewallPacket {
  readonly iif: string | undefined
  readonly oif: string | undefined
  readonly saddr: Ip
  readonly daddr: Ip
  readonly protocol: 'tcp' | 'udp'
  readonly dport: number | undefined
}

const RULES_MAX = 20_000
const JUMPS_MAX = 16

/** Returns each base chain that is certain to drop the packet, with the rule or policy that drops it. */
export function droppedBy(
  chains: readonly FirewallChain[],
  hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting',
  packet: FirewallPacket
): readonly { readonly chain: FirewallChain; readonly by: string }[] {
  return chains.flatMap((chain) => {
    if (chain.base?.hook !== hook || !isOfFamily(chain, packet)) return []
    const { accepts, drops } = walk(chains, chain, packet)
    return !accepts && drops !== undefined ? [{ chain, by: drops }] : []
  })
}

/** Returns the source translations (SNAT, masquerade) in chains before `priority` that may apply to the packet. */
export function translatedBefore(
  chains: readonly FirewallChain[],
  priority: number,
  packet: FirewallPacket
): readonly { readonly chain: FirewallChain; readonly by: string }[] {
  return chains.flatMap((chain) => {
    if (chain.base?.hook !== 'postrouting' || chain.base.priority >= priority) return []
    if (!isOfFamily(chain, packet)) return []
    const { translates } = walk(chains, chain, packet)
    return translates === undefined ? [] : [{ chain, by: translates }]
  })
}

/**
 * Returns the rules that send the packet to another destination (DNAT, REDIRECT) before this host takes it. Only a rule that
 * names its port counts: one that takes all packets of another device or mark is not told apart from one that takes ours.
 */
export function redirectedBy(
  chains: readonly FirewallChain[],
  packet: FirewallPacket
): readonly { readonly chain: FirewallChain; readonly by: string }[] {
  return chains.flatMap((chain) => {
    if (chain.base?.hook !== 'prerouting' || !isOfFamily(chain, packet)) return []
    const { redirects } = walk(chains, chain, packet)
    return redirects === undefined ? [] : [{ chain, by: redirects }]
  })
}

/**
 * Returns the rules that are certain to keep the packet out of connection tracking (`notrack`). Without tracking nothing
 * translates its destination, so the load balancer does not see it.
 */
export function untrackedBy(
  chains: readonly FirewallChain[],
  hook: 'prerouting' | 'output',
  packet: FirewallPacket
): readonly { readonly chain: FirewallChain; readonly by: string }[] {
  return chains.flatMap((chain) => {
    if (chain.base?.hook !== hook || !isOfFamily(chain, packet)) return []
    const { untracks } = walk(chains, chain, packet)
    return untracks === undefined ? [] : [{ chain, by: untracks }]
  })
}

/**
 * Returns the rules of nftables at a device (family netdev, hook ingress or egress) that drop the packet. They run
 * before and after all other chains. Only a rule that names the port counts: a device may be another one than that of
 * the packet.
 */
export function droppedAtDevice(
  chains: readonly FirewallChain[],
  hook: 'ingress' | 'egress',
  packet: FirewallPacket
): readonly { readonly chain: FirewallChain; readonly by: string }[] {
  return chains.flatMap((chain) => {
    if (chain.family !== 'netdev' || chain.base?.hook !== hook) return []
    const { accepts } = walk(chains, chain, packet)
    const rule = chain.rules.find(
      ({ verdict, conditions }) =>
        verdict.kind === 'drop' && namesPort(conditions, packet) && matches(conditions, packet) === true
    )
    return accepts || rule === undefined
      ? []
      : [{ chain, by: `${rule.text} in chain ${chain.name} of ${chain.table}` }]
  })
}

interface Outcome {
  accepts: boolean
  drops: string | undefined
  translates: string | undefined
  redirects: string | undefined
  untracks: string | undefined
}

function walk(chains: readonly FirewallChain[], base: FirewallChain, packet: FirewallPacket): Outcome {
  const outcome: Outcome = {
    accepts: false,
    drops: undefined,
    translates: undefined,
    redirects: undefined,
    untracks: undefined
  }
  const byName = new Map(
    chains.filter(({ table }) => table === base.table).map((chain) => [chain.name, chain])
  )
  let budget = RULES_MAX
  /** Returns whether the packet may leave the chain at its end. */
  const through = (chain: FirewallChain, depth: number): boolean => {
    for (const rule of chain.rules) {
      if (--budget < 0 || depth > JUMPS_MAX) {
        outcome.accepts = true // the rest is not examined, and an uncertain result must not be reported
        return true
      }
      const isMatch = matches(rule.conditions, packet)
      const { verdict } = rule
      if (isMatch === false || verdict.kind === 'none') continue
      const isCertain = isMatch === true
      if (verdict.kind === 'accept') outcome.accepts = true
      else if (verdict.kind === 'drop')
        outcome.drops ??= `${rule.text} in chain ${chain.name} of ${chain.table}`
      else if (verdict.kind === 'translate')
        outcome.translates ??= `${rule.text} in chain ${chain.name} of ${chain.table}`
      else if (verdict.kind === 'redirect') {
        if (namesPort(rule.conditions, packet))
          outcome.redirects ??= `${rule.text} in chain ${chain.name} of ${chain.table}`
        continue
      } else if (verdict.kind === 'untrack') {
        if (isCertain) outcome.untracks ??= `${rule.text} in chain ${chain.name} of ${chain.table}`
        continue
      } else if (verdict.kind === 'return') {
        if (isCertain) return true
        continue
      } else if (verdict.kind === 'jump' || verdict.kind === 'goto') {
        const target = byName.get(verdict.chain)
        const comesBack = target === undefined || through(target, depth + 1)
        if (verdict.kind === 'goto' && isCertain) return comesBack
        if (!comesBack && isCertain) return false
        continue
      }
      if (isCertain) return false
    }
    return true
  }
  if (!through(base, 0)) return outcome
  if (base.base?.policy === 'drop') outcome.drops ??= `the policy of chain ${base.name} of ${base.table}`
  else outcome.accepts = true
  return outcome
}

function namesPort(conditions: readonly Condition[], packet: FirewallPacket): boolean {
  return conditions.some(
    (condition) => condition.kind === 'dport' && holds(condition, packet) === !condition.not
  )
}

/** Returns whether all conditions hold; undefined when that is not known. */
function matches(conditions: readonly Condition[], packet: FirewallPacket): boolean | undefined {
  let certain = true
  for (const condition of conditions) {
    const is = holds(condition, packet)
    if (is === undefined) certain = false
    else if (is === ('not' in condition && condition.not)) return false
  }
  return certain ? true : undefined
}

function holds(condition: Condition, packet: FirewallPacket): boolean | undefined {
  switch (condition.kind) {
    case 'iif':
    case 'oif': {
      const device = packet[condition.kind]
      if (device === undefined) return undefined
      return condition.names.some((name) =>
        /[+*]$/.test(name) ? device.startsWith(name.slice(0, -1)) : device === name
      )
    }
    case 'saddr':
    case 'daddr':
      return condition.prefixes.some((prefix) => cidrContains(prefix, packet[condition.kind]))
    case 'state':
      return condition.states.includes('new')
    case 'mark':
      return condition.value === 0
    case 'protocol':
      return condition.name === packet.protocol
    case 'dport':
      if (condition.protocol !== undefined && condition.protocol !== packet.protocol) return condition.not
      return packet.dport === undefined
        ? undefined
        : packet.dport >= condition.from && packet.dport <= condition.to
    case 'unknown':
      return undefined
    default:
      return condition satisfies never
  }
}

function isOfFamily({ family }: FirewallChain, { saddr }: FirewallPacket): boolean {
  if (family === 'netdev') return false
  return family === 'inet' || (family === 'ip6') === saddr.includes(':')
}

// ------------------------------------------------------------------ nft -j list ruleset

type Json = Readonly<Record<string, unknown>>

/** Reads the output of `nft -j list ruleset`. Tables whose name starts with `own` are left out. Never throws. */
export function parseNftRuleset(ruleset: unknown, own: string): readonly FirewallChain[] {
  const entries = asArray(record(ruleset)['nftables']).map(record)
  const chains = new Map<string, FirewallChain & { rules: FirewallRule[] }>()
  for (const entry of entries) {
    const chain = record(entry['chain'])
    const { family, table, name } = chain
    if (!isFamily(family) || typeof table !== 'string' || typeof name !== 'string') continue
    if (table.startsWith(own)) continue
    const { hook, prio, policy } = chain
    chains.set(`${family} ${table} ${name}`, {
      table: `table ${family} ${table}`,
      family,
      name,
      ...(typeof hook === 'string' && typeof prio === 'number'
        ? { base: { hook, priority: prio, policy: policy === 'drop' ? 'drop' : 'accept' } }
        : {}),
      rules: []
    })
  }
  for (const entry of entries) {
    const rule = record(entry['rule'])
    const chain = chains.get(`${String(rule['family'])} ${String(rule['table'])} ${String(rule['chain'])}`)
    chain?.rules.push(nftRule(asArray(rule['expr']).map(record), rule['handle']))
  }
  return [...chains.values()]
}

function nftRule(expressions: readonly Json[], handle: unknown): FirewallRule {
  const conditions: Condition[] = []
  let verdict: Verdict = { kind: 'none' }
  for (const expression of expressions) {
    const [kind = ''] = Object.keys(expression)
    if (kind === 'match') conditions.push(nftCondition(record(expression['match'])))
    else if (kind === 'accept' || kind === 'return') verdict = { kind }
    else if (kind === 'drop' || kind === 'reject') verdict = { kind: 'drop' }
    else if (kind === 'masquerade' || kind === 'snat') verdict = { kind: 'translate' }
    else if (kind === 'dnat' || kind === 'redirect') verdict = { kind: 'redirect' }
    else if (kind === 'notrack') verdict = { kind: 'untrack' }
    else if (kind === 'jump' || kind === 'goto')
      verdict = { kind, chain: String(record(expression[kind])['target']) }
    else if (kind === 'vmap' || kind === 'xt' || kind === 'limit' || kind === 'queue') {
      conditions.push({ kind: 'unknown' })
      if (kind === 'vmap' || kind === 'queue') verdict = { kind: 'accept' } // these may accept the packet
    }
  }
  return { conditions, verdict, text: `rule ${String(handle)} (${verdict.kind})` }
}

function nftCondition({ op, left, right }: Json): Condition {
  const not = op === '!='
  if (op !== '==' && op !== '!=' && op !== 'in') return { kind: 'unknown' }
  const values = valuesOf(right)
  if (values === undefined) return { kind: 'unknown' }
  const key = record(record(left)['meta'])['key']
  if (key === 'iifname' || key === 'iif') return { kind: 'iif', names: values, not }
  if (key === 'oifname' || key === 'oif') return { kind: 'oif', names: values, not }
  if (key === 'l4proto') return { kind: 'protocol', name: values[0] ?? '', not }
  if (key === 'mark') return { kind: 'mark', value: Number(values[0]), mask: 0xffff_ffff, not }
  const masked = asArray(record(left)['&'])
  if (record(record(masked[0])['meta'])['key'] === 'mark')
    return { kind: 'mark', value: Number(values[0]), mask: Number(masked[1]), not }
  if (record(record(left)['ct'])['key'] === 'state') return { kind: 'state', states: values, not }
  const { protocol, field } = record(record(left)['payload'])
  if (field === 'dport') {
    const port = Number(values[0])
    return values.length === 1 && Number.isInteger(port)
      ? {
          kind: 'dport',
          ...(protocol === 'tcp' || protocol === 'udp' ? { protocol } : {}),
          from: port,
          to: port,
          not
        }
      : { kind: 'unknown' }
  }
  if ((protocol === 'ip' || protocol === 'ip6') && (field === 'saddr' || field === 'daddr')) {
    const prefixes = values.map(prefixOf)
    if (prefixes.every((prefix) => prefix !== undefined)) return { kind: field, prefixes, not }
  }
  return { kind: 'unknown' }
}

/** Returns undefined for a named set, a range and any other form that is not interpreted. */
function valuesOf(right: unknown): readonly string[] | undefined {
  if (typeof right === 'number') return [String(right)]
  if (typeof right === 'string') return right.startsWith('@') ? undefined : [right]
  const list = Array.isArray(right) ? right : record(right)['set']
  if (Array.isArray(list)) {
    const values = list.map(valuesOf)
    return values.every((value) => value !== undefined) ? values.flat() : undefined
  }
  const { addr, len } = record(record(right)['prefix'])
  return typeof addr === 'string' && typeof len === 'number' ? [`${addr}/${len}`] : undefined
}

/** Returns the prefix of an address ("10.1.0.1" is /32) or of a prefix; undefined: the text is neither. */
export function prefixOf(text: string): Cidr | undefined {
  const ip = parseIp(text)
  const parsed = parseCidr(ip === undefined ? text : `${ip}/${ip.includes(':') ? 128 : 32}`)
  return parsed.kind === 'cidr' ? parsed.cidr : undefined
}

function isFamily(family: unknown): family is FirewallChain['family'] {
  return family === 'ip' || family === 'ip6' || family === 'inet' || family === 'netdev'
}

function record(value: unknown): Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {}
}

function asArray(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
