// Adds to a configuration of @kubernetes/client-node 2 what kubectl understands of a kubeconfig and client-node does
// not: `tokenFile` of a user, the proxy of the environment, and a server without TLS. Used by connection.ts, for the
// agent and for meshctl.
// Source: client-go clientcmd, golang.org/x/net/http/httpproxy.
import type { KubeConfig } from '@kubernetes/client-node'
import { readFileSync } from 'node:fs'
import { BlockList, isIP } from 'node:net'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parse } from 'yaml'
import { codeOf } from '../../core/model/coded-error.ts'

interface KubectlHabits {
  /** The path of the file that client-node has read; undefined: the files in KUBECONFIG, or ~/.kube/config. */
  readonly file: string | undefined
  /** The environment: KUBECONFIG, HOME, and the variables of proxies. */
  readonly env: Readonly<Record<string, string | undefined>>
}

/**
 * Changes `config` in place. Throws errors of the file system and of YAML, although client-node has read the files
 * before.
 */
export function readAsKubectl(config: KubeConfig, { file, env }: KubectlHabits): void {
  const files = tokenFiles(file === undefined ? kubeconfigFiles(env) : [file])
  config.users = config.users.map((user) => {
    const tokenFile = files.get(user.name)
    if (tokenFile === undefined) return user
    // As in client-go, a token file wins over a token. client-node reads it again, because it is renewed on disk.
    const { token: _token, ...rest } = user
    return { ...rest, authProvider: { name: 'tokenFile', config: { tokenFile } } }
  })
  config.clusters = config.clusters.map((cluster) => {
    const { server } = cluster
    const proxyUrl = cluster.proxyUrl ?? proxyOf(server, env)
    return {
      ...cluster,
      ...(proxyUrl === undefined ? {} : { proxyUrl }),
      // client-node refuses a server without TLS unless this is set.
      ...(server.startsWith('http:') ? { skipTLSVerify: true } : {})
    }
  })
}

/** Returns the paths of the kubeconfig files as client-go finds them; they need not exist. */
export function kubeconfigFiles(env: KubectlHabits['env']): string[] {
  const named = (env['KUBECONFIG'] ?? '').split(':').filter((name) => name !== '')
  return named.length > 0 ? named : [join(env['HOME'] ?? homedir(), '.kube', 'config')]
}

/** Returns the absolute path of each user's token file. If several files have a user, the first one counts. */
function tokenFiles(files: readonly string[]): ReadonlyMap<string, string> {
  const found = new Map<string, string>()
  for (const file of files) {
    let config: unknown
    try {
      config = parse(readFileSync(file, 'utf8'))
    } catch (error) {
      if (codeOf(error) === 'ENOENT') continue
      throw error
    }
    const { users } = (config ?? {}) as { users?: unknown }
    for (const entry of Array.isArray(users) ? users : []) {
      const { name, user } = (entry ?? {}) as { name?: unknown; user?: { tokenFile?: unknown } | null }
      const tokenFile = user?.tokenFile
      if (typeof name === 'string' && typeof tokenFile === 'string' && tokenFile !== '' && !found.has(name))
        // A relative path begins at the folder of its kubeconfig.
        found.set(name, resolve(dirname(file), tokenFile))
    }
  }
  return found
}

/**
 * Returns the URL of the proxy that Go programs take from the environment for this URL; undefined: none. The variables
 * are HTTPS_PROXY or HTTP_PROXY, and NO_PROXY for exceptions; each may be in lower case.
 */
export function proxyOf(url: string, env: KubectlHabits['env']): string | undefined {
  if (!URL.canParse(url)) return undefined
  const { protocol, hostname, port } = new URL(url)
  const name = protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY'
  const proxy = env[name] || env[name.toLowerCase()]
  if (!proxy) return undefined
  const host = hostname.replace(/^\[(.*)\]$/, '$1').toLowerCase()
  const isBypassed = noProxy(env['NO_PROXY'] || env['no_proxy'] || '', {
    host,
    port: port === '' ? (protocol === 'https:' ? '443' : '80') : port
  })
  if (isBypassed) return undefined
  return /^[a-z0-9+]+:\/\//i.test(proxy) ? proxy : `http://${proxy}`
}

/**
 * Says whether a host is reached without a proxy. An entry of the list is "*", an address, a prefix, or a domain; an
 * address and a domain may have a port. Loopback addresses and localhost never use a proxy.
 */
function noProxy(list: string, { host, port }: { host: string; port: string }): boolean {
  const family = isIP(host) === 6 ? 'ipv6' : 'ipv4'
  const loopback = new BlockList()
  loopback.addSubnet('127.0.0.0', 8, 'ipv4')
  loopback.addAddress('::1', 'ipv6')
  if (host === 'localhost' || (isIP(host) !== 0 && loopback.check(host, family))) return true
  return list
    .split(',')
    .map((entry) => entry.trim().toLowerCase())
    .some((entry) => {
      if (entry === '') return false
      if (entry === '*') return true
      const [, address = '', length] = /^([0-9a-f.:]+)\/(\d{1,3})$/.exec(entry) ?? []
      if (isIP(address) !== 0) {
        const prefix = new BlockList()
        const width = isIP(address) === 6 ? 128 : 32
        if (Number(length) > width) return false
        prefix.addSubnet(address, Number(length), isIP(address) === 6 ? 'ipv6' : 'ipv4')
        return isIP(host) !== 0 && prefix.check(host, family)
      }
      const [, name = entry, onlyPort] = isIP(entry) === 6 ? [] : (/^(.*?):(\d+)$/.exec(entry) ?? [])
      if (onlyPort !== undefined && onlyPort !== port) return false
      const bare = name.replace(/^\*?\./, '').replace(/^\[(.*)\]$/, '$1')
      if (isIP(bare) !== 0 || isIP(host) !== 0) return bare === host
      // "example.org" means the name and all names below it, ".example.org" only the names below it.
      return host.endsWith(`.${bare}`) || (bare === host && bare === name)
    })
}
