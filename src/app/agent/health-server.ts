// Starts the HTTP server of health and metrics, and tries again every RETRY_MS when that fails. The agent runs on
// without it, and the registry of health has the fault HTTP_LISTEN.
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Settings } from '../settings/settings.ts'
import { startHealthHttp, type HealthHttp } from './health-http.ts'

// A port in use most often belongs to an earlier agent that is about to end, so the next attempt comes soon.
const RETRY_MS = 2000
const FAULT = 'HTTP_LISTEN'

interface HealthServerOptions {
  readonly settings: Settings
  readonly metrics: Metrics
  readonly health: Health
  readonly log: Log
  /** Returns why the agent is not ready; undefined: it is ready. */
  readonly notReady: () => string | undefined
}

/** Starts and stops the HTTP server. One per process. `stop` ends the server and the attempts to start it. */
export class HealthServer {
  readonly #options: HealthServerOptions
  #http: HealthHttp | undefined
  #retry: NodeJS.Timeout | undefined
  #isStopped = false

  constructor(options: HealthServerOptions) {
    this.#options = options
  }

  /**
   * Starts the server unless the setting http-listen is off. Never rejects: after a failure, the next attempt comes
   * after RETRY_MS.
   */
  async start(): Promise<void> {
    const { settings, metrics, health, log, notReady } = this.#options
    const listen = settings['http-listen']
    if (listen === 'off') return
    try {
      this.#http = await startHealthHttp({
        listen,
        metrics,
        notReady,
        onError: (error) => log.warn({ err: error }, 'a connection for health or metrics was lost')
      })
      health.clear(FAULT)
    } catch (error) {
      if (this.#isStopped) return
      health.setError(FAULT, error, { severity: 'error', fix: 'check the setting http-listen' })
      this.#retry = setTimeout(() => void this.start(), RETRY_MS)
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    clearTimeout(this.#retry)
    await this.#http?.stop()
  }
}
