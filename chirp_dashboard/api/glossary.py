"""What each name in the API's document means, with an example: a name means the same wherever it stands.

`Schema.field` and `operation.parameter` go before the bare name; what a schema says of its fields itself goes
before both.
"""

APP, OTHER_APP = "app_2wGqVtZ5jK3mN8pQ4rS6tUvWxYz", "app_2wGqW1bD7fH9jL2nP4qR6sT8uVa"
NUMBER_ID = "ph_2wGqVxK8mP3rT6vY9aC2eF5hJ7k"
LINE, ORDER = "ph_purch_2wGqVyB4dG7jM1pS5vX8zA2cE6f", "ord_2wGqVyB3cF6iL9oR2uW5xZ8bD1e"
KEY, ADMIN_KEY = "key_app_2wGqVuA1bC3dE5fG7hI9jK2lM4n", "key_admin_2wGqVvN6oP8qR1sT3uV5wX7yZ9a"
HOOK = "whk_2wGqVwB2cD4eF6gH8iJ1kL3mN5o"
AT, LATER = "2026-11-23T17:00:00.000Z", "2026-11-24T08:15:30.250Z"
MINOR = "in the minor unit of `currency`."

GLOSSARY = {
    # Ids and names
    "App.id": ("The app's id.", APP),
    "appId": ("The app's id.", APP),
    "Order.appId": ("The app the numbers were purchased for, or null.", APP),
    "OrderIn.appId": ("The app to assign the numbers to.", APP),
    "Key.appId": ("The app of an app key; null for an admin key.", APP),
    "NewKey.appId": ("The app of an app key; null for an admin key.", APP),
    "listAppKeys.appId": ("Only the keys of this app.", APP),
    "AppOfNumber.appName": ("The app's name.", "Storefront"),
    "AppOfNumber.appSlug": ("The app's slug.", "storefront"),
    "appIds": ("The apps that shall have the number, and no others.", [APP, OTHER_APP]),
    "apps": ("Apps.", None),
    "Number.apps": ("The apps that have the number, the earliest first.", None),
    "affectedApps": ("The apps that had the number.", None),
    "slug": ("Its name in addresses: lower-case letters, digits, hyphens. It never changes.", "storefront"),
    "App.name": ("What people call it.", "Storefront"),
    "AppIn.name": ("What people call it.", "Storefront"),
    "AppChange.name": ("The new name.", "Web shop"),
    "App.status": ("`active`, or `billing_paused` while rent is unpaid.", "active"),
    "available": ("May a new app have it?", True),
    "key": ("The key itself.", "sk_live_app_…"),
    "keyId": ("The key's id.", KEY),
    "Key.id": ("The key's id.", KEY),
    "NewKey.id": ("The key's id.", KEY),
    "keyPreview": ("How the key begins and ends.", "sk_live_app_****9xQz"),
    "name": ("What it is for.", "Server"),
    "keys": ("The newest first.", None),
    "lastUsedAt": ("To the minute; null when it never was.", LATER),
    # Numbers
    "phoneNumberId": ("The id of a number that the organization has.", NUMBER_ID),
    "Purchased.phoneNumberId": ("Null while the carrier has still to answer.", NUMBER_ID),
    "OrderLine.phoneNumberId": ("The number's id once it is delivered, else null.", NUMBER_ID),
    "number": ("E.164, or the digits of a short code.", "+12125550142"),
    "phoneNumber": ("E.164, or the digits of a short code.", "+12125550142"),
    "numberType": ("`local`, `tollfree` or `shortcode`.", "local"),
    "listNumbers.numberType": ("Only this type; `mobile` is accepted and finds nothing.", "local"),
    "available.numberType": ("`mobile` is accepted and has no stock.", "local"),
    "location": ("City and state; empty where there is none.", "New York, NY"),
    "features": ("What the number can do.", ["SMS", "MMS", "Voice"]),
    "available.features": ("What it must be able to do, comma-separated.", "SMS,Voice"),
    "label": ("What people call the number; may be empty.", "Front desk"),
    "Number.status": ("`active`, `suspended`, `releasing` or `released`.", "active"),
    "test": ("A test number costs nothing.", False),
    "releasesOn": ("The day it stops working, when a release is scheduled.", None),
    "phoneNumbers": ("In the order of their numbers.", None),
    "q": ("Digits that stand in the number.", "5550"),
    "telnyxMessagingProfile": ("Accepted and not used here.", "1234567890abcdef"),
    "when": ("`now`, or `period_end`: when what is paid for ends.", "period_end"),
    "success": ("Always true; anything else is an error.", True),
    "message": ("What was done, in words.", "Done."),
    # Search
    "country": ("Two letters.", "US"),
    "region": ("The state or province, as two letters.", "NY"),
    "city": ("The city's name or how it begins.", "New York"),
    "areaCode": ("Three digits.", "212"),
    "startsWith": ("Digits or letters of the number; one of the three patterns at most.", "212555"),
    "contains": ("Digits or letters of the number; one of the three patterns at most.", "5550"),
    "endsWith": ("Digits or letters of the number; one of the three patterns at most.", "0142"),
    # Money and orders
    "currency": ("ISO 4217.", "USD"),
    "purchaseFee": (f"Once, {MINOR}", 100),
    "monthlyRental": (f"A month, {MINOR}", 100),
    "Available.monthlyRental": (f"For `intervalMonths`, {MINOR}", 100),
    "intervalMonths": ("How many months each rental pays for: 1, or the lease's.", 1),
    "firstRental": (f"For the days until the next invoice's, {MINOR}", 27),
    "rental": (f"For each full period, {MINOR}", 100),
    "net": (f"Fees and first rentals, {MINOR}", 127),
    "tax": (f"On them, {MINOR}", 0),
    "total": (f"What is due, tax included, {MINOR}", 127),
    "monthly": (f"What it adds to every month, {MINOR}", 100),
    "nextInvoiceOn": ("The day of the next invoice.", "2026-12-01"),
    "expectedTotal": (f"What the quote said, {MINOR} Needed without dryRun.", 127),
    "dryRun": ("Only say what it would cost.", True),
    "lines": ("One for each number.", None),
    "orders": ("The newest first.", None),
    "orderId": ("The order's id.", ORDER),
    "Purchased.orderId": ("The order it came with; null for a test number.", ORDER),
    "Order.id": ("The order's id; null in a quote.", ORDER),
    "Order.state": (
        "`quoted`; `placed`, `authorised`, `ordered` while it is under way; `completed`, "
        "`partly_completed`, `failed`, `declined`; `stuck` while people look at it.",
        "completed",
    ),
    "OrderLine.id": ("The purchase's id; null in a quote.", LINE),
    "OrderLine.state": (
        "`quoted`; `placed`, `ordered`, `unknown` while it is under way; `delivered`, `unavailable`, "
        "`failed`.",
        "delivered",
    ),
    "reason": ("Why it was not delivered, else empty.", ""),
    "purchaseHistoryId": ("The purchase's id.", LINE),
    # Timeline
    "events": ("What happened, the latest first.", None),
    "event": ("The verb.", "assigned"),
    "Event.description": ("The same in words.", "Assigned to Storefront"),
    "actor": ("The person, key or part of the system that did it.", "Ada Lovelace"),
    "occurredAt": ("When it happened.", AT),
    # Webhooks
    "webhookId": ("The webhook's id.", HOOK),
    "Webhook.id": ("The webhook's id.", HOOK),
    "NewWebhook.id": ("The webhook's id.", HOOK),
    "webhooks": ("The earliest first.", None),
    "url": ("Where events are sent.", "https://example.com/hooks"),
    "Webhook.events": ("What the app wants to hear of.", ["phone_numbers.assigned"]),
    "NewWebhook.events": ("What the app wants to hear of.", ["phone_numbers.assigned"]),
    "WebhookIn.events": ("What the app wants to hear of.", ["phone_numbers.assigned"]),
    "WebhookChange.events": ("What the app wants to hear of.", ["phone_numbers.released"]),
    "headers": ("Sent with every event.", {"X-Token": "****"}),
    "secret": ("Signs every delivery (Standard Webhooks).", "whsec_…"),
    # Pages
    "limit": ("At most so many, 20 if it is not said.", 20),
    "offset": ("So many are left out first.", 0),
    "cursor": ("The `nextCursor` of the page before.", None),
    "nextCursor": ("Null on the last page.", None),
    "totalCount": ("How many there are; null where more than 10,000 match.", 1),
    "createdAt": ("When it was made.", AT),
    "NumberOfApp.createdAt": ("When the number was assigned.", AT),
    "AssignedNumber.createdAt": ("When the number was assigned.", AT),
    "Number.createdAt": ("When the number was purchased.", AT),
    "Order.createdAt": ("When the order was placed; null in a quote.", AT),
    "updatedAt": ("When it was last changed.", LATER),
    # Billing
    "recordId": ("The record's id.", "chg_4711"),
    "records": ("The latest day first.", None),
    "period": ("The days that were summed up.", None),
    "created_at": ("When it was written.", AT),
    "by_product": ("The sum by product; there is one.", {"phone-numbers": "12.00"}),
    "Record.id": ("The record's id.", "chg_4711"),
    "organization_id": ("The organization's id.", "org_2wGqVsZ9kM4nP7qR1sT3uV5wX8y"),
    "product": ("Always the same.", "phone-numbers"),
    # Errors
    "error": ("What went wrong.", None),
    "type": (
        "`invalid_request_error`, `authentication_error`, `provider_error` or `api_error`.",
        "invalid_request_error",
    ),
    "code": ("For programs, where one is useful; else it is not there.", "resource_already_exists"),
    "param": ("The field that is wrong, such as `lines[0].phoneNumber`; may not be there.", "slug"),
}  # fmt: skip

QUOTED = {"id": None, "state": "quoted", "createdAt": None,
          "lines": [{"id": None, "state": "quoted", "phoneNumberId": None}]}  # fmt: skip
UNDER_WAY = {"state": "ordered", "lines": [{"state": "ordered", "phoneNumberId": None}]}
OF_ORGANIZATION = {"id": ADMIN_KEY, "name": "Automation", "appId": None}
ANSWERS = {
    ("placeOrder", "200"): QUOTED,
    ("placeOrder", "202"): UNDER_WAY,
    ("purchase", "202"): {"phoneNumberId": None},
    ("createAdminKey", "201"): OF_ORGANIZATION | {"key": "sk_admin_…"},
    ("listAdminKeys", "200"): {"keys": [OF_ORGANIZATION | {"keyPreview": "sk_admin_****7tRw"}]},
    ("listOrders", "200"): {"nextCursor": "4711"},
    ("listNumbers", "200"): {"nextCursor": "p12125550142-4711", "totalCount": 25},
    ("available", "200"): {"nextCursor": "+12125550142"},
}
"""Where an answer differs from what its fields mean elsewhere, by operation and status."""
