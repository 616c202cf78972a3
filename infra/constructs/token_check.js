// Viewer request of /api/*: lets a request pass when the SHA-256 of its token is the stored one. The token comes in
// the header x-api-key or in the cookie tapewatch_token. No stranger's request starts a function. A browser that follows
// the link of a report without having signed in is sent to the page, which asks for the token and goes on from there.
import cf from 'cloudfront';
import crypto from 'crypto';

const store = cf.kvs();

async function handler(event) {
    const request = event.request;
    const header = request.headers['x-api-key'];
    const cookie = request.cookies['tapewatch_token'];
    const token = header ? header.value : cookie ? cookie.value : '';
    let wanted = '';
    try {
        wanted = await store.get('token_sha256');
    } catch (error) {
        wanted = '';
    }
    const given = crypto.createHash('sha256').update(token).digest('hex');
    if (token !== '' && wanted.length === 64 && given === wanted) {
        return request;
    }
    const accept = request.headers['accept'];
    if (/^\/api\/reports\/[0-9TZ-]+$/.test(request.uri || '') && accept && accept.value.indexOf('text/html') !== -1) {
        return {
            statusCode: 302,
            statusDescription: 'Found',
            headers: { location: { value: '/?next=' + encodeURIComponent(request.uri) }, 'cache-control': { value: 'no-store' } },
        };
    }
    return {
        statusCode: 401,
        statusDescription: 'Unauthorized',
        headers: { 'content-type': { value: 'application/json' }, 'cache-control': { value: 'no-store' } },
        body: { encoding: 'text', data: '{"error": "a token is needed", "code": "unauthorized"}' },
    };
}
