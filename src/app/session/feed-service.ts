// Runs the feed server, from which CoreDNS reads the names of the mesh.
import { createFeedServer, type FeedServer } from '../../io/coredns/server.ts'
import { feedAddress } from './local-facts.ts'
import type { Log } from '../observe/log.ts'
import type { Settings } from '../settings/settings.ts'
import type { Served, Service } from './services.ts'

export interface FeedServiceOptions {
  readonly settings: Settings
  readonly log: Log
  /** The next update is due: what is served has not been told yet. */
  readonly onStarted: () => void
}

export class FeedService implements Service {
  readonly name = 'feed'
  readonly isOnNodeAddress = false
  readonly #options: FeedServiceOptions
  /** undefined: it does not serve. */
  #server: FeedServer | undefined

  constructor(options: FeedServiceOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    const { settings, log, onStarted } = this.#options
    const listen = feedAddress(settings)
    if (listen === undefined) return
    const server = createFeedServer({ listen })
    await server.start()
    this.#server = server
    log.info({ url: server.url }, 'feed for CoreDNS')
    onStarted()
  }

  update({ view, withdrawn }: Served): void {
    this.#server?.update({ view, withdrawn: (cluster) => withdrawn.has(cluster) })
  }

  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    await server?.stop()
  }
}
