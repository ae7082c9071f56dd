// Reads the rules of iptables from the output of `iptables-save`, for firewall.ts, which tells what they do with a packet.
import { prefixOf, type Condition, type FirewallChain, type FirewallRule, type Verdict } from './firewall.ts'

const HOOKS: Readonly<Record<string, string>> = {
  PREROUTING: 'prerouting',
  INPUT: 'input',
  FORWARD: 'forward',
  OUTPUT: 'output',
  POSTROUTING: 'postrouting'
}
const PRIORITIES: Readonly<Record<string, number>> = {
  raw: -300,
  mangle: -150,
  filter: 0,
  security: 50,
  nat: 100
}

/** Reads the output of `iptables-save`. `tool` names the program ("iptables-legacy") in messages. Never throws. */
export function parseIptablesSave(
  text: string,
  family: 'ip' | 'ip6',
  tool: string
): readonly FirewallChain[] {
  const chains = new Map<string, FirewallChain & { rules: FirewallRule[] }>()
  let table = ''
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1).trim()
    const declared = /^:(\S+) (\S+)/.exec(line)
    if (declared) {
      const [, name = '', policy] = declared
      const hook = HOOKS[name]
      chains.set(`${table} ${name}`, {
        table: `table ${table} (${tool})`,
        family,
        name,
        ...(hook === undefined
          ? {}
          : {
              base: { hook, priority: PRIORITIES[table] ?? 0, policy: policy === 'DROP' ? 'drop' : 'accept' }
            }),
        rules: []
      })
    }
    const [, name = '', rest = ''] = /^-A (\S+) ?(.*)$/.exec(line) ?? []
    chains.get(`${table} ${name}`)?.rules.push(iptablesRule(rest))
  }
  return [...chains.values()]
}

function iptablesRule(text: string): FirewallRule {
  const words = text.match(/"[^"]*"|\S+/g) ?? []
  const conditions: Condition[] = []
  let verdict: Verdict = { kind: 'none' }
  let not = false
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? ''
    const value = words[at + 1] ?? ''
    if (word === '!') {
      not = true
      continue
    }
    if (word === '-j' || word === '-g') {
      const isUntracked = value === 'NOTRACK' || (value === 'CT' && words[at + 2] === '--notrack')
      verdict = isUntracked ? { kind: 'untrack' } : iptablesVerdict(value, word === '-g')
      break // the words after the target are its options
    }
    const condition = word === '-m' || word === '--comment' ? undefined : iptablesCondition(word, value, not)
    if (condition !== undefined) conditions.push(condition)
    not = false
    while (at + 1 < words.length && !/^(-|!$)/.test(words[at + 1] ?? '')) at++
  }
  return { conditions, verdict, text: `-A ${text}`.slice(0, 120) }
}

function iptablesCondition(word: string, value: string, not: boolean): Condition | undefined {
  switch (word) {
    case '-i':
      return { kind: 'iif', names: [value], not }
    case '-o':
      return { kind: 'oif', names: [value], not }
    case '-s':
    case '-d': {
      const prefix = prefixOf(value)
      return prefix === undefined
        ? { kind: 'unknown' }
        : { kind: word === '-s' ? 'saddr' : 'daddr', prefixes: [prefix], not }
    }
    case '-p':
      return { kind: 'protocol', name: value, not }
    case '--ctstate':
    case '--state':
      return { kind: 'state', states: value.toLowerCase().split(','), not }
    case '--mark': {
      const [mark = '', mask = '0xffffffff'] = value.split('/')
      return { kind: 'mark', value: Number(mark), mask: Number(mask), not }
    }
    case '--dport': {
      const [from = '', to = from] = value.split(':')
      return { kind: 'dport', from: Number(from), to: Number(to), not }
    }
    default:
      return { kind: 'unknown' }
  }
}

function iptablesVerdict(target: string, isGoto: boolean): Verdict {
  if (target === 'ACCEPT') return { kind: 'accept' }
  if (target === 'DROP' || target === 'REJECT') return { kind: 'drop' }
  if (target === 'RETURN') return { kind: 'return' }
  if (target === 'MASQUERADE' || target === 'SNAT' || target === 'NETMAP') return { kind: 'translate' }
  if (target === 'DNAT' || target === 'REDIRECT') return { kind: 'redirect' }
  if (/^(LOG|MARK|CONNMARK|TCPMSS|NFLOG|CT|TRACE|CHECKSUM)$/.test(target)) return { kind: 'none' }
  return { kind: isGoto ? 'goto' : 'jump', chain: target }
}
